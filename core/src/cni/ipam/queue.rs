//! A queue of free offsets in a file: constant time in and out, whatever the occupancy.
//!
//! The file is a header and a ring of slots, one per offset of the pool. Whoever holds the lock
//! reads the header, reads or writes one slot, writes the header.

/// Octets of the header.
pub const HEADER_LEN: usize = 32;

/// Octets of a slot: one offset, little endian.
pub const SLOT_LEN: usize = 4;

/// Marks the file and the version of its layout.
const MAGIC: [u8; 8] = *b"mnqueue1";

/// The header of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    digest: u64,
    capacity: u32,
    head: u32,
    len: u32,
}

impl Queue {
    /// A queue with `len` offsets in its first slots, for the blocks with this digest.
    pub fn filled(digest: u64, capacity: u32, len: u32) -> Self {
        Queue { digest, capacity, head: 0, len: len.min(capacity) }
    }

    /// Reads a header, or nothing when it is damaged or was made for other blocks.
    pub fn decode(header: &[u8], digest: u64) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = header.try_into().ok()?;
        let (magic, rest) = header.split_first_chunk::<8>()?;
        let (found, rest) = rest.split_first_chunk::<8>()?;
        let mut numbers = rest.chunks_exact(4).map(|c| c.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)));
        let queue = Queue {
            digest: u64::from_le_bytes(*found),
            capacity: numbers.next()?,
            head: numbers.next()?,
            len: numbers.next()?,
        };
        let sound = *magic == MAGIC
            && queue.digest == digest
            && queue.head < queue.capacity.max(1)
            && queue.len <= queue.capacity;
        sound.then_some(queue)
    }

    /// The header as it stands in the file.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&self.digest.to_le_bytes());
        header[16..20].copy_from_slice(&self.capacity.to_le_bytes());
        header[20..24].copy_from_slice(&self.head.to_le_bytes());
        header[24..28].copy_from_slice(&self.len.to_le_bytes());
        header
    }

    /// How many offsets the ring has room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Takes the slot that waited longest, if there is one.
    pub fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        let slot = self.head;
        self.head = self.next(1);
        Some(slot)
    }

    /// Gives the slot for one more offset; nothing when the ring is full, and then the offset
    /// is found again when the queue is next rebuilt.
    pub fn push(&mut self) -> Option<u32> {
        if self.len >= self.capacity {
            return None;
        }
        let slot = self.next(self.len);
        self.len += 1;
        Some(slot)
    }

    /// The slot some places behind the head.
    fn next(&self, places: u32) -> u32 {
        // In 64 bits: a damaged file may claim any capacity. It is not zero, where this is asked.
        let slot = (u64::from(self.head) + u64::from(places)) % u64::from(self.capacity.max(1));
        slot as u32
    }

    /// Where a slot lies in the file, in octets from its beginning.
    pub fn position(slot: u32) -> u64 {
        HEADER_LEN as u64 + u64::from(slot) * SLOT_LEN as u64
    }
}
