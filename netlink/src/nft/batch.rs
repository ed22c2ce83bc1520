//! A transaction: messages between a begin and an end, which the kernel does all or not at all.

use std::ops::Range;

use super::error::Subject;
use super::uapi::*;
use super::wire::Attrs;

/// `sizeof(struct nlmsghdr)` + `sizeof(struct nfgenmsg)`.
pub const MESSAGE_HEADER: usize = 16 + 4;

/// A part of a message that the kernel can point at when it refuses the message.
#[derive(Debug, Clone)]
pub struct Part {
    /// Where it is, in bytes from the first attribute.
    pub range: Range<usize>,
    /// The name of the expression there.
    pub expr: String,
}

/// What a message of a batch asks for.
#[derive(Debug, Clone)]
pub struct Step {
    /// The kind of object that it is about.
    pub subject: Subject,
    /// In words, such as "add chain postrouting".
    pub action: String,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Step {
    /// A step without parts.
    pub fn new(subject: Subject, action: impl Into<String>) -> Self {
        Self { subject, action: action.into(), parts: Vec::new() }
    }
}

/// Messages of one transaction, numbered from 0.
#[derive(Debug)]
pub struct Batch {
    /// What the transaction is for, in words.
    pub action: String,
    messages: Vec<(u16, u16, Vec<u8>)>,
    steps: Vec<Step>,
    too_long: Option<String>,
}

impl Batch {
    /// An empty transaction.
    pub fn new(action: impl Into<String>) -> Self {
        Self { action: action.into(), messages: Vec::new(), steps: Vec::new(), too_long: None }
    }

    /// Appends a message.
    pub fn push(&mut self, kind: u16, flags: u16, step: Step, attrs: Attrs) {
        match attrs.finish() {
            Some(bytes) => self.messages.push((kind, flags, bytes)),
            None => self.too_long = self.too_long.take().or(Some(step.action.clone())),
        }
        self.steps.push(step);
    }

    /// What the messages ask for, in their order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What did not fit into its message, if anything.
    pub fn too_long(&self) -> Option<&str> {
        self.too_long.as_deref()
    }

    /// The bytes to send. The begin has the sequence number `seq`, message n has `seq + 1 + n`.
    ///
    /// With a generation, the kernel refuses the transaction (ERESTART) if anyone has committed
    /// another one since.
    pub fn bytes(&self, seq: u32, generation: Option<u32>) -> Vec<u8> {
        let mut begin = Attrs::default();
        if let Some(generation) = generation {
            begin.be32(BATCH_GENID, generation);
        }
        let begin = begin.finish().unwrap_or_default();
        let mut bytes = Vec::new();
        message(&mut bytes, BATCH_BEGIN, NLM_F_REQUEST, seq, NFPROTO_UNSPEC, &begin);
        let mut seq = seq;
        for (kind, flags, attrs) in &self.messages {
            seq = seq.wrapping_add(1);
            let kind = SUBSYS_NFTABLES << 8 | kind;
            let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
            message(&mut bytes, kind, flags, seq, NFPROTO_INET, attrs);
        }
        let end = seq.wrapping_add(1);
        message(&mut bytes, BATCH_END, NLM_F_REQUEST, end, NFPROTO_UNSPEC, &[]);
        bytes
    }
}

/// Appends one message with its `nlmsghdr` and its `nfgenmsg`.
pub fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, seq: u32, family: u8, attrs: &[u8]) {
    let len = (MESSAGE_HEADER + attrs.len()) as u32;
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    // The port of the sender: the kernel fills it in.
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.push(family);
    // NFNETLINK_V0
    bytes.push(0);
    // Begin and end name the subsystem of the batch here; the others leave it empty.
    let resource = if matches!(kind, BATCH_BEGIN | BATCH_END) { SUBSYS_NFTABLES } else { 0 };
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(attrs);
}
