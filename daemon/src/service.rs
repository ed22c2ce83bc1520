//! What the daemon tells others while it runs: its state on a socket for the commands, metrics
//! and health where that is configured, and its state in a file for when it does not run any more.
//!
//! Whoever asks waits for the daemon's loop to answer, so that an answer proves that it turns.
//! Nothing of this is worth ending for: what cannot be served is said, and tried again.

mod file;
mod http;
mod listen;
mod metrics;
mod question;

use std::path::Path;
use std::time::{Duration, Instant};

use minionet_core::config::{Config, Endpoint};
use minionet_core::constants::RUN_DIR;
use minionet_core::state::{SOCKET, State};
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::file::StateFile;
use self::listen::Listening;
use self::question::{Answer, Question, Request};
use crate::causes::chain;
use crate::collector;
use crate::node::Node;

/// How soon something that could not be served is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Most questions that wait for the loop.
const WAITING: usize = 16;

/// What there is to do.
pub enum Work {
    /// Somebody asks.
    Answer(Request),
    /// The file is to be written.
    Write,
}

/// Tells others.
pub struct Service {
    questions: mpsc::Receiver<Request>,
    asking: mpsc::Sender<Request>,
    doors: [Door; 2],
    every_peer: bool,
    collector: collector::Handle,
    file: StateFile,
}

/// Something that is served somewhere, or should be.
struct Door {
    what: &'static str,
    asked: &'static [Question],
    at: Option<Endpoint>,
    open: Option<Listening>,
    /// Why it is not served, and when that was tried.
    failed: Option<(String, Instant)>,
}

impl Service {
    /// Begins to serve what is configured; what cannot be served is said.
    pub fn start(config: &Config, collector: collector::Handle) -> Self {
        let (asking, questions) = mpsc::channel(WAITING);
        let socket = Path::new(RUN_DIR).join(SOCKET).display().to_string();
        let commands =
            Door::new("the state for minionetd status", Question::ALL, Some(Endpoint::Unix(socket)));
        let metrics = Door::new("metrics and health", Question::OPEN, config.metrics_address.clone());
        let mut service = Service {
            questions,
            asking,
            doors: [commands, metrics],
            every_peer: config.metrics_every_peer,
            collector,
            file: StateFile::default(),
        };
        service.open();
        service
    }

    /// Takes over another configuration.
    pub fn reconfigure(&mut self, config: &Config) {
        self.every_peer = config.metrics_every_peer;
        let [_, metrics] = &mut self.doors;
        if metrics.at != config.metrics_address {
            *metrics = Door::new(metrics.what, metrics.asked, config.metrics_address.clone());
        }
        self.open();
    }

    /// Waits until there is something to do. May be dropped at any time.
    pub async fn next(&mut self) -> Work {
        tokio::select! {
            Some(request) = self.questions.recv() => Work::Answer(request),
            () = self.file.due() => Work::Write,
        }
    }

    /// Does it.
    pub fn work(&mut self, work: Work, node: &Node) {
        match work {
            Work::Answer(request) => {
                let answer = self.answer(request.question, node);
                // Whoever asked may have gone.
                let _gone = request.reply.send(answer);
            }
            Work::Write => self.file.write(&self.describe(node), node.journal().version()),
        }
    }

    /// Takes note of what happened. Called after everything that does.
    pub fn notice(&mut self, node: &Node) {
        self.file.notice(node.journal().version());
        self.open();
    }

    /// Ends: leaves the state as it is now, for the commands.
    pub fn stop(mut self, node: &Node) {
        self.file.write(&self.describe(node), node.journal().version());
    }

    fn open(&mut self) {
        for door in &mut self.doors {
            door.open(&self.asking);
        }
    }

    fn answer(&self, question: Question, node: &Node) -> Answer {
        match question {
            Question::State => Answer::json(self.describe(node).to_text()),
            Question::Metrics => {
                let collected = self.collector.tally();
                metrics::answer(&self.describe(node), node, &collected, self.every_peer)
            }
            // The loop turns, or nobody would answer.
            Question::Health => Answer::text(true, "ok\n".to_owned()),
            Question::Readiness => {
                let readiness = node.readiness();
                let text =
                    if readiness.ready { "ok\n".to_owned() } else { readiness.lacks.join("\n") + "\n" };
                Answer::text(readiness.ready, text)
            }
        }
    }

    fn describe(&self, node: &Node) -> State {
        let mut state = node.describe();
        state.troubles.extend(self.doors.iter().filter_map(|door| Some(door.failed.as_ref()?.0.clone())));
        state
    }
}

impl Door {
    fn new(what: &'static str, asked: &'static [Question], at: Option<Endpoint>) -> Self {
        Door { what, asked, at, open: None, failed: None }
    }

    /// Opens the door where it should be open and is not, unless that was tried lately.
    fn open(&mut self, asking: &mpsc::Sender<Request>) {
        let Some(at) = self.at.as_ref().filter(|_| self.open.is_none()) else { return };
        if self.failed.as_ref().is_some_and(|(_, tried)| tried.elapsed() < AGAIN) {
            return;
        }
        match listen::open(at, self.asked, asking) {
            Ok(listening) => {
                info!(%at, "{} can be asked for", self.what);
                self.open = Some(listening);
                self.failed = None;
            }
            Err(error) => {
                let text = format!("{} cannot be asked for: {}", self.what, chain(&error));
                if self.failed.as_ref().is_none_or(|(last, _)| *last != text) {
                    warn!("{text}");
                }
                self.failed = Some((text, Instant::now()));
            }
        }
    }
}
