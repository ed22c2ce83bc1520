//! The queue of free offsets on disk; see `minionet_core::cni::ipam` for its layout.
//!
//! It is a hint. What cannot be read is rebuilt from the leases, and what cannot be written is
//! left: the next one who needs it finds it short or old, and rebuilds it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use minionet_core::cni::ipam::{HEADER_LEN, Origin, Queue, SLOT_LEN, Space};

use super::StoreError;
use super::lock::Locked;

/// Free offsets, the one that has been free for longest first.
pub(super) struct Offsets<'a> {
    space: &'a Space,
    open: Option<(File, Queue)>,
    rebuilt: bool,
}

impl Offsets<'_> {
    /// The next offset to try, or nothing when all are taken.
    pub(super) fn next(&mut self, locked: &mut Locked<'_>) -> Result<Option<u32>, StoreError> {
        loop {
            if let Some((file, queue)) = &mut self.open {
                while let Some(slot) = queue.pop() {
                    let offset = read_slot(file, slot);
                    if let Some(offset) = offset.filter(|o| self.space.pool().contains(o)) {
                        return Ok(Some(offset));
                    }
                }
            }
            if self.rebuilt {
                return Ok(None);
            }
            self.open = locked.rebuild_queue(self.space)?;
            self.rebuilt = true;
        }
    }

    /// Writes back what was taken out.
    pub(super) fn save(self) {
        if let Some((file, queue)) = self.open {
            save(&file, &queue);
        }
    }
}

impl Locked<'_> {
    /// Opens the queue for a space.
    pub(super) fn open_queue<'a>(&mut self, space: &'a Space) -> Offsets<'a> {
        let open = self.load_queue(space.digest());
        let open = open.filter(|(_, queue)| queue.capacity() as usize == space.pool().len());
        Offsets { space, open, rebuilt: false }
    }

    /// Puts offsets at the end of the queue, if there is one for the space they came from.
    pub(super) fn enqueue(&mut self, origin: &Origin) {
        let Some((file, mut queue)) = self.load_queue(origin.space) else { return };
        for offset in &origin.offsets {
            if let Some(slot) = queue.push() {
                let _hint = file.write_all_at(&offset.to_le_bytes(), Queue::position(slot));
            }
        }
        save(&file, &queue);
    }

    fn load_queue(&self, space: u64) -> Option<(File, Queue)> {
        let file = File::options().read(true).write(true).open(self.store.root.join("queue")).ok()?;
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).ok()?;
        let queue = Queue::decode(&header, space)?;
        Some((file, queue))
    }

    /// Fills the queue with all offsets that no lease is in the way of.
    ///
    /// # Errors
    /// [`StoreError::Io`] when leases cannot be read, or the queue cannot be written: then the
    /// state directory is out of order, and a lease could not be written either.
    fn rebuild_queue(&mut self, space: &Space) -> Result<Option<(File, Queue)>, StoreError> {
        let taken = self.taken()?;
        let free = |offset: &u32| space.at(*offset).iter().all(|a| !taken.contains(&a.address));
        let offsets: Vec<u32> = space.pool().filter(free).collect();
        let queue = Queue::filled(space.digest(), space.pool().len() as u32, offsets.len() as u32);
        let mut content = Vec::with_capacity(HEADER_LEN + offsets.len() * SLOT_LEN);
        content.extend(queue.encode());
        content.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        let path = self.store.root.join("queue");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(StoreError::io("make", &path))?;
        file.write_all_at(&content, 0).map_err(StoreError::io("write", &path))?;
        Ok((!offsets.is_empty()).then_some((file, queue)))
    }
}

fn read_slot(file: &File, slot: u32) -> Option<u32> {
    let mut octets = [0; SLOT_LEN];
    file.read_exact_at(&mut octets, Queue::position(slot)).ok()?;
    Some(u32::from_le_bytes(octets))
}

fn save(file: &File, queue: &Queue) {
    let _hint = file.write_all_at(&queue.encode(), 0);
}
