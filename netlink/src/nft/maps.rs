//! Elements of several maps in one transaction.

use minionet_core::nft::{Element, MapContents, SetSpec};
use nix::errno::Errno;

use super::batch::Batch;
use super::error::NftError;
use super::uapi::{DELSETELEM, NEWSETELEM};
use super::{Nft, dump, element};

/// What some maps held at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapsRead {
    /// The maps with their elements, in the order they were asked for. One that is not there
    /// counts as empty.
    pub maps: Vec<MapContents>,
    /// How many transactions had been committed by then.
    pub generation: u32,
}

impl Nft {
    /// Adds elements to several maps in one transaction, and replaces the data of keys that are
    /// there already.
    ///
    /// # Errors
    /// [`NftError::Refused`] with ENOENT if the table or a map is not there;
    /// [`NftError::Contended`]; a netlink error.
    pub fn put_maps(&mut self, table: &str, maps: &[MapContents]) -> Result<(), NftError> {
        match self.change_maps(table, &[], maps, None) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            done => return done,
        }
        self.retry("put elements into maps", |nft| {
            let found = nft.read_maps(table, maps.iter().map(|map| &map.spec))?;
            let old = intersect(&found.maps, maps, |old, new| old.key == new.key && old != new);
            nft.change_maps(table, &old, maps, Some(found.generation))
        })
    }

    /// Deletes elements of several maps in one transaction. One whose key leads elsewhere by now
    /// belongs to somebody else and stays; what is not there is ignored.
    ///
    /// # Errors
    /// [`NftError::Contended`] or a netlink error.
    pub fn remove_maps(&mut self, table: &str, maps: &[MapContents]) -> Result<(), NftError> {
        self.retry("delete elements of maps", |nft| {
            let found = nft.read_maps(table, maps.iter().map(|map| &map.spec))?;
            let old = intersect(&found.maps, maps, |old, gone| old == gone);
            nft.change_maps(table, &old, &[], Some(found.generation))
        })
    }

    /// Reads several maps.
    ///
    /// # Errors
    /// [`NftError::Contended`] or a netlink error.
    pub fn read_maps<'a>(
        &mut self,
        table: &str,
        specs: impl IntoIterator<Item = &'a SetSpec> + Clone,
    ) -> Result<MapsRead, NftError> {
        self.retry("read maps", |nft| {
            let generation = nft.generation()?;
            let mut maps = Vec::new();
            for spec in specs.clone() {
                let elements = match nft.elements(table, spec) {
                    Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
                    read => read?,
                };
                maps.push(MapContents { spec: spec.clone(), elements });
            }
            if dump::generation(&mut nft.socket)? != generation {
                return Err(NftError::changed("read maps"));
            }
            Ok(MapsRead { maps, generation })
        })
    }

    /// Deletes the elements with the keys of `old`, then adds `new`, in one transaction; with a
    /// generation, only if nobody committed anything since.
    ///
    /// # Errors
    /// [`NftError::Model`] if an element does not fit its map; [`NftError::Refused`] with ENOENT
    /// if an element of `old`, a map or the table is not there, with EEXIST if a key of `new`
    /// leads elsewhere; [`NftError::is_race`] when somebody was faster.
    pub fn change_maps(
        &mut self,
        table: &str,
        old: &[MapContents],
        new: &[MapContents],
        generation: Option<u32>,
    ) -> Result<(), NftError> {
        let action = "change elements of maps";
        for map in new {
            let fit = map.elements.iter().try_for_each(|element| map.spec.check(element));
            fit.map_err(|source| NftError::Model { action: action.to_owned(), source })?;
        }
        let mut batch = Batch::new(action);
        for map in old {
            element::change(&mut batch, DELSETELEM, table, &map.spec, &map.elements);
        }
        for map in new {
            element::change(&mut batch, NEWSETELEM, table, &map.spec, &map.elements);
        }
        if batch.steps().is_empty() {
            return Ok(());
        }
        self.socket.commit(&batch, generation)
    }
}

/// The elements of each map that match one of the other's.
fn intersect(
    maps: &[MapContents],
    others: &[MapContents],
    matches: impl Fn(&Element, &Element) -> bool,
) -> Vec<MapContents> {
    let both = maps.iter().zip(others);
    both.map(|(map, other)| {
        let common = map.elements.iter().filter(|one| other.elements.iter().any(|two| matches(one, two)));
        MapContents { spec: map.spec.clone(), elements: common.cloned().collect() }
    })
    .collect()
}
