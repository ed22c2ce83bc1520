//! What can be asked, and the answers.

use tokio::sync::oneshot;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Everything; for the commands.
    State,
    /// Metrics in Prometheus' text format.
    Metrics,
    /// Whether the daemon's loop turns.
    Health,
    /// Whether the overlay is formed.
    Readiness,
}

impl Question {
    /// What root may ask.
    pub const ALL: &[Question] = &[Question::State, Question::Metrics, Question::Health, Question::Readiness];

    /// What everybody may ask who reaches the address.
    pub const OPEN: &[Question] = &[Question::Metrics, Question::Health, Question::Readiness];

    /// The path of its address.
    pub fn path(self) -> &'static str {
        match self {
            Question::State => "/state",
            Question::Metrics => "/metrics",
            Question::Health => "/healthz",
            Question::Readiness => "/readyz",
        }
    }
}

/// A question that waits for its answer.
pub struct Request {
    /// What is asked.
    pub question: Question,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Whether it is a good one.
    pub good: bool,
    /// Its media type.
    pub media: &'static str,
    /// Its content.
    pub body: String,
}

impl Answer {
    /// A document.
    pub fn json(body: String) -> Self {
        Answer { good: true, media: "application/json", body }
    }

    /// A text for people.
    pub fn text(good: bool, body: String) -> Self {
        Answer { good, media: "text/plain; charset=utf-8", body }
    }
}
