//! Leases: which attachment has an address.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;

use minionet_core::cni::attachment::Id;
use minionet_core::cni::ipam::{Assigned, Origin, Space};

use super::lock::Locked;
use super::{Store, StoreError};

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Attachment(Id),
    /// Something else than an attachment: a reservation by hand.
    Reserved(String),
}

impl Locked<'_> {
    /// Chooses addresses for an attachment: those requested, and for the families that are left
    /// the one that has been free for longest. They are its own from [`Locked::take`] on, before
    /// which its record must be written: so there is never a lease that no record tells of.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Exhausted`], [`StoreError::Io`].
    pub fn choose(&mut self, space: &Space, requested: &[Assigned]) -> Result<Vec<Assigned>, StoreError> {
        for assigned in requested {
            if self.is_taken(assigned.address)? {
                let holder = self.describe(&self.holder(assigned.address)?);
                return Err(StoreError::InUse { address: assigned.address, holder });
            }
        }
        let mut chosen = requested.to_vec();
        if !space.is_complete(requested) {
            chosen.extend(self.choose_any(space, requested)?);
        }
        chosen.sort_by_key(|a| a.address);
        Ok(chosen)
    }

    /// Takes addresses that were chosen under this lock.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then some of them may be taken, for [`Locked::release`] to free.
    pub fn take(&mut self, chosen: &[Assigned], id: Id) -> Result<(), StoreError> {
        for assigned in chosen {
            let path = self.store.lease_path(assigned.address);
            self.store.make("make", &path, || symlink(id.to_string(), &path))?;
        }
        Ok(())
    }

    /// Frees the addresses of an attachment, as far as they are its own.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a lease is there and stays.
    pub fn release(&mut self, addresses: &[Assigned], origin: &Origin, id: Id) -> Result<(), StoreError> {
        if self.drop_leases(addresses, id)? {
            self.enqueue(origin);
        }
        Ok(())
    }

    /// Frees all addresses of an attachment whose record does not tell them.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the leases cannot be read, or one stays.
    pub fn release_all_of(&mut self, id: Id) -> Result<(), StoreError> {
        for address in self.addresses()? {
            if self.holder(address)? == Holder::Attachment(id) {
                self.remove(address)?;
            }
        }
        Ok(())
    }

    /// Removes the leases and the marks of attachments that have no record; says how many leases
    /// there were.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the leases cannot be read, or one stays.
    pub fn prune(&mut self) -> Result<usize, StoreError> {
        self.forget_marks()?;
        let before = self.addresses()?.len();
        Ok(before - self.taken()?.len())
    }

    /// How many addresses of a space are left to be given out.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the leases cannot be read.
    pub fn free(&mut self, space: &Space) -> Result<usize, StoreError> {
        let taken = self.taken()?;
        let free = |offset: &u32| space.at(*offset).iter().all(|a| !taken.contains(&a.address));
        Ok(space.pool().filter(free).count())
    }

    /// The addresses that are taken. Leases whose attachment is gone are removed.
    pub(super) fn taken(&mut self) -> Result<BTreeSet<IpAddr>, StoreError> {
        let mut taken = BTreeSet::new();
        for address in self.addresses()? {
            if self.is_taken(address)? {
                taken.insert(address);
            }
        }
        Ok(taken)
    }

    fn choose_any(&mut self, space: &Space, requested: &[Assigned]) -> Result<Vec<Assigned>, StoreError> {
        let mut offsets = self.open_queue(space);
        while let Some(offset) = offsets.next(self)? {
            let candidates = space.completing(requested, offset);
            let mut free = true;
            for candidate in &candidates {
                // The hint was wrong: requested by name, or reserved by hand.
                free &= !self.is_taken(candidate.address)?;
            }
            if free {
                offsets.save();
                return Ok(candidates);
            }
        }
        offsets.save();
        Err(StoreError::Exhausted { blocks: space.describe(), size: space.pool().len() })
    }

    /// Whether an address has a holder; removes the lease of one that is gone.
    fn is_taken(&mut self, address: IpAddr) -> Result<bool, StoreError> {
        match self.holder(address)? {
            Holder::Nobody => Ok(false),
            Holder::Attachment(id) if !self.store.has_record(id) => {
                self.remove(address)?;
                Ok(false)
            }
            Holder::Attachment(_) | Holder::Reserved(_) => Ok(true),
        }
    }

    fn holder(&self, address: IpAddr) -> Result<Holder, StoreError> {
        let path = self.store.lease_path(address);
        match fs::read_link(&path) {
            Ok(target) => {
                let target = target.to_string_lossy().into_owned();
                Ok(target.parse().map_or(Holder::Reserved(target), Holder::Attachment))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Holder::Nobody),
            // Not a symbolic link.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(Holder::Reserved("a file".into())),
            Err(source) => Err(StoreError::io("read", &path)(source)),
        }
    }

    fn describe(&self, holder: &Holder) -> String {
        match holder {
            Holder::Nobody => "nobody".into(),
            Holder::Reserved(text) => format!("a reservation by hand ({text})"),
            Holder::Attachment(id) => {
                let found = self.find(*id).ok().flatten();
                let record = found.and_then(|mut f| f.read().ok()).and_then(Result::ok);
                match record {
                    Some(r) => format!("container {} interface {}", r.key.container, r.key.ifname),
                    None => format!("attachment {id}"),
                }
            }
        }
    }

    /// Removes leases as far as they are an attachment's; says whether there was one.
    fn drop_leases(&mut self, addresses: &[Assigned], id: Id) -> Result<bool, StoreError> {
        let mut dropped = false;
        for assigned in addresses {
            if self.holder(assigned.address)? == Holder::Attachment(id) {
                self.remove(assigned.address)?;
                dropped = true;
            }
        }
        Ok(dropped)
    }

    fn remove(&mut self, address: IpAddr) -> Result<(), StoreError> {
        let path = self.store.lease_path(address);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, StoreError> {
        self.store.leased()
    }
}

impl Store {
    /// The addresses that have a lease.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the leases cannot be read.
    pub fn leased(&self) -> Result<Vec<IpAddr>, StoreError> {
        let dir = self.leases();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("read", &dir)(source)),
        };
        let mut addresses = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &dir))?;
            addresses.extend(entry.file_name().to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(addresses)
    }
}

impl Store {
    /// Whether no address of a space is left; what is said may be outdated at once.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the leases cannot be read.
    pub fn is_exhausted(&self, space: &Space) -> Result<bool, StoreError> {
        let mut taken = BTreeSet::new();
        for address in self.leased()? {
            let target = fs::read_link(self.lease_path(address)).ok();
            let id = target.and_then(|target| target.to_str()?.parse::<Id>().ok());
            // One without a record is as good as free.
            if id.is_none_or(|id| self.has_record(id)) {
                taken.insert(address);
            }
        }
        Ok(space.pool().all(|offset| space.at(offset).iter().any(|a| taken.contains(&a.address))))
    }

    /// Whether an attachment has the lease of an address.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the lease cannot be read.
    pub fn has_lease(&self, address: IpAddr, id: Id) -> Result<bool, StoreError> {
        let path = self.lease_path(address);
        match fs::read_link(&path) {
            Ok(target) => Ok(target.to_str().and_then(|t| t.parse().ok()) == Some(id)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(false),
            Err(source) => Err(StoreError::io("read", &path)(source)),
        }
    }

    fn lease_path(&self, address: IpAddr) -> std::path::PathBuf {
        self.leases().join(address.to_string())
    }
}
