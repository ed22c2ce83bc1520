//! nftables over netlink, without the program `nft`.
//!
//! [`Nft`] replaces minionet's table as a whole, reads it back, and adds and deletes elements of
//! its sets and maps. Every change is one transaction: the kernel makes all of it or none. The
//! rulesets themselves, and what differs between two of them, are `minionet_core::nft`.

mod batch;
mod dump;
mod element;
mod encode;
mod error;
mod expr;
mod foreign;
mod maps;
pub(crate) mod socket;
mod uapi;
pub(crate) mod wire;

use minionet_core::constants::NFT_TABLE;
use minionet_core::forward::Table;
use minionet_core::nft::{Contents, Drift, Element, Observed, ObservedRule, Ruleset, SetSpec, drift};
use nix::errno::Errno;

use batch::Batch;
pub use error::{NftError, Refusal, Subject};
pub use maps::MapsRead;
use socket::NftSocket;
use uapi::{
    DELSETELEM, GETSETELEM, GETTABLE, NEWSETELEM, NFPROTO_UNSPEC, SET_ELEM_LIST_ELEMENTS, TABLE_NAME,
};
pub use wire::Malformed;
use wire::{Attrs, Parsed};

/// How often something is tried again because another program committed a ruleset meanwhile.
const ATTEMPTS: usize = 64;

/// A table of any family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// `NFPROTO_*`, linux/netfilter.h: 1 for inet, 2 for ip, 10 for ip6, …
    pub family: u8,
    /// Its name.
    pub name: String,
}

/// The nftables of one network namespace: that of the thread that called [`Nft::open`].
#[derive(Debug)]
pub struct Nft {
    socket: NftSocket,
}

impl Nft {
    /// Opens a socket to nftables in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NftError::Open`]
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: NftSocket::open()? })
    }

    /// Makes the table exactly what the ruleset says, in one transaction, so that no packet meets
    /// half of it. The elements of [`Contents::Kept`] sets are carried over if the set had the same
    /// definition before.
    ///
    /// # Errors
    /// [`NftError::Model`] before anything is sent; [`NftError::Refused`] with the object that the
    /// kernel refused; [`NftError::Contended`] if other programs kept changing rulesets.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<(), NftError> {
        let action = format!("replace table inet {}", ruleset.table);
        ruleset.check().map_err(|source| NftError::Model { action: action.clone(), source })?;
        self.retry(&action, |nft| {
            let found = dump::table(&mut nft.socket, &ruleset.table)?;
            let generation = match &found {
                Some(found) => found.generation,
                None => dump::generation(&mut nft.socket)?,
            };
            let elements: Vec<Vec<Element>> = ruleset
                .sets
                .iter()
                .map(|set| match &set.contents {
                    Contents::Fixed(elements) => elements.clone(),
                    Contents::Kept => kept(&set.spec, found.as_ref()),
                })
                .collect();
            nft.socket.commit(&encode::replace(ruleset, &elements), Some(generation))
        })
    }

    /// Reads a table of the family inet; none if there is no such table.
    ///
    /// # Errors
    /// [`NftError::Contended`] if rulesets changed during every attempt, or a netlink error.
    pub fn dump(&mut self, table: &str) -> Result<Option<Observed>, NftError> {
        self.retry(&format!("read table inet {table}"), |nft| {
            let found = dump::table(&mut nft.socket, table)?;
            if let Some(found) = &found
                && dump::generation(&mut nft.socket)? != found.generation
            {
                return Err(NftError::changed("read a table"));
            }
            Ok(found)
        })
    }

    /// Reads the ruleset's table and says what is not as it should be.
    ///
    /// # Errors
    /// As [`Nft::dump`].
    pub fn drift(&mut self, ruleset: &Ruleset) -> Result<Vec<Drift>, NftError> {
        Ok(drift(ruleset, self.dump(&ruleset.table)?.as_ref()))
    }

    /// Deletes a table of the family inet with everything in it. Returns whether there was one.
    ///
    /// # Errors
    /// A netlink error, or [`NftError::Refused`].
    pub fn delete_table(&mut self, table: &str) -> Result<bool, NftError> {
        let action = format!("delete table inet {table}");
        self.retry(&action, |nft| {
            let mut batch = Batch::new(action.as_str());
            encode::delete_table(&mut batch, table);
            match nft.socket.commit(&batch, None) {
                Ok(()) => Ok(true),
                Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// All tables of all families.
    ///
    /// # Errors
    /// A netlink error.
    pub fn tables(&mut self) -> Result<Vec<TableName>, NftError> {
        let action = "list the tables";
        self.retry(action, |nft| {
            let replies = nft.socket.dump(GETTABLE, NFPROTO_UNSPEC, Attrs::default(), action)?;
            let table = |reply: &socket::Reply| {
                let name = Parsed::new(&reply.attrs)?.text(TABLE_NAME).unwrap_or_default();
                Ok(TableName { family: reply.family, name })
            };
            let tables: Result<Vec<_>, Malformed> = replies.iter().map(table).collect();
            tables.map_err(|source| NftError::Malformed { action: action.to_owned(), source })
        })
    }

    /// The chains of other programs that forwarded packets go through, with their rules.
    ///
    /// # Errors
    /// [`NftError::Contended`] if rulesets changed during every attempt, or a netlink error.
    pub fn forward_tables(&mut self) -> Result<Vec<Table>, NftError> {
        self.retry("read the chains that forwarded packets go through", |nft| {
            match foreign::tables(&mut nft.socket, NFT_TABLE) {
                // It was there when the chains were listed.
                Err(error) if error.errno() == Some(Errno::ENOENT) => Err(NftError::changed("read a chain")),
                other => other,
            }
        })
    }

    /// The number of rules in a table of the family inet; none if there is no such table.
    ///
    /// # Errors
    /// A netlink error.
    pub fn rule_count(&mut self, table: &str) -> Result<Option<usize>, NftError> {
        self.retry("count rules", |nft| dump::rule_count(&mut nft.socket, table))
    }

    /// The rules of a table of the family inet, chain after chain, with what they have counted;
    /// nothing if there is no such table.
    ///
    /// # Errors
    /// A netlink error.
    pub fn rules(&mut self, table: &str) -> Result<Vec<ObservedRule>, NftError> {
        let rules = self.retry("read rules", |nft| dump::rules(&mut nft.socket, table))?;
        Ok(rules.into_iter().map(|(_, rule)| rule).collect())
    }

    /// The number of transactions that were ever committed in this namespace, by anyone.
    ///
    /// # Errors
    /// A netlink error.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        dump::generation(&mut self.socket)
    }

    /// The elements of a set, sorted.
    ///
    /// # Errors
    /// [`NftError::Refused`] with ENOENT if there is no such set.
    pub fn elements(&mut self, table: &str, spec: &SetSpec) -> Result<Vec<Element>, NftError> {
        let action = format!("read the elements of set {}", spec.name);
        let elements = self.retry(&action, |nft| dump::elements(&mut nft.socket, table, spec))?;
        elements.ok_or(NftError::Malformed {
            action,
            source: Malformed("an element does not fit the set as it is known here"),
        })
    }

    /// The element with this key, with its data as the kernel has it; none if there is none.
    /// In a set with ranges, the range must be the same one.
    ///
    /// # Errors
    /// [`NftError::Model`] if the key does not fit; a netlink error.
    pub fn element(
        &mut self,
        table: &str,
        spec: &SetSpec,
        element: &Element,
    ) -> Result<Option<Element>, NftError> {
        if spec.interval {
            let all = self.elements(table, spec)?;
            return Ok(all.into_iter().find(|it| it.key == element.key));
        }
        let key = Element { data: None, ..element.clone() };
        let action = format!("look up {key} in set {}", spec.name);
        spec.check_key(&key).map_err(|source| NftError::Model { action: action.clone(), source })?;
        let mut attrs = element::set_name(table, &spec.name);
        attrs.nest(SET_ELEM_LIST_ELEMENTS, |list| element::encode(list, spec, &key));
        let Some(reply) = self.socket.get(GETSETELEM, attrs, &action)? else {
            return Ok(None);
        };
        let found =
            element::decode(spec, &[reply.attrs]).map_err(|source| NftError::Malformed { action, source })?;
        Ok(found.and_then(|mut found| found.pop()))
    }

    /// Adds elements in one transaction; those that are there already are left as they are.
    ///
    /// # Errors
    /// [`NftError::Model`] if an element does not fit; [`NftError::Refused`] with EEXIST if a map
    /// has other data for one of the keys (see [`Nft::put_elements`]) or ranges overlap, with
    /// ENOENT if there is no such set.
    pub fn add_elements(
        &mut self,
        table: &str,
        spec: &SetSpec,
        elements: &[Element],
    ) -> Result<(), NftError> {
        self.change_elements("add", table, spec, &[], elements, None)
    }

    /// Adds elements in one transaction, and replaces the data of keys that are there already.
    ///
    /// # Errors
    /// As [`Nft::add_elements`], but for other data; [`NftError::Contended`].
    pub fn put_elements(
        &mut self,
        table: &str,
        spec: &SetSpec,
        elements: &[Element],
    ) -> Result<(), NftError> {
        match self.add_elements(table, spec, elements) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            done => return done,
        }
        self.retry(&format!("put elements into set {}", spec.name), |nft| {
            let generation = dump::generation(&mut nft.socket)?;
            let there = nft.elements(table, spec)?;
            let old: Vec<Element> = there
                .into_iter()
                .filter(|old| elements.iter().any(|new| new.key == old.key && new != old))
                .collect();
            nft.change_elements("put", table, spec, &old, elements, Some(generation))
        })
    }

    /// Deletes the elements with these keys in one transaction; those that are not there are
    /// ignored, and so is the data.
    ///
    /// # Errors
    /// [`NftError::Refused`] with ENOENT if there is no such set; [`NftError::Contended`].
    pub fn delete_elements(
        &mut self,
        table: &str,
        spec: &SetSpec,
        elements: &[Element],
    ) -> Result<(), NftError> {
        // The usual case first: all of them are there, and the set need not be read.
        match self.change_elements("delete", table, spec, elements, &[], None) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            done => return done,
        }
        self.retry(&format!("delete elements of set {}", spec.name), |nft| {
            let generation = dump::generation(&mut nft.socket)?;
            let mut there = nft.elements(table, spec)?;
            there.retain(|old| elements.iter().any(|gone| gone.key == old.key));
            nft.change_elements("delete", table, spec, &there, &[], Some(generation))
        })
    }

    fn change_elements(
        &mut self,
        verb: &str,
        table: &str,
        spec: &SetSpec,
        old: &[Element],
        new: &[Element],
        generation: Option<u32>,
    ) -> Result<(), NftError> {
        let action = format!("{verb} elements of set {}", spec.name);
        let old_fit = old.iter().try_for_each(|element| spec.check_key(element));
        if let Err(source) = old_fit.and(new.iter().try_for_each(|element| spec.check(element))) {
            return Err(NftError::Model { action, source });
        }
        let mut batch = Batch::new(action);
        element::change(&mut batch, DELSETELEM, table, spec, old);
        element::change(&mut batch, NEWSETELEM, table, spec, new);
        if batch.steps().is_empty() {
            return Ok(());
        }
        self.socket.commit(&batch, generation)
    }

    /// Tries again for as long as the reason for failing is that someone else was faster.
    fn retry<T>(
        &mut self,
        action: &str,
        mut attempt: impl FnMut(&mut Self) -> Result<T, NftError>,
    ) -> Result<T, NftError> {
        for _ in 0..ATTEMPTS {
            match attempt(self) {
                Err(error) if error.is_race() => {}
                done => return done,
            }
        }
        Err(NftError::Contended { action: action.to_owned(), attempts: ATTEMPTS })
    }
}

/// What a set that is kept has in it now.
fn kept(spec: &SetSpec, found: Option<&Observed>) -> Vec<Element> {
    let found = found.and_then(|found| found.set(&spec.name));
    let same = found.filter(|found| found.spec.as_ref() == Some(spec));
    same.map(|found| found.elements.clone()).unwrap_or_default()
}
