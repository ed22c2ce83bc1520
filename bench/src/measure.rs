//! Taking samples: one after the other, each side in turn, so that what disturbs the machine
//! disturbs all sides alike.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netns_testbed::Namespace;

/// Takes a sample of each subject in every round; the order is reversed from round to round. One
/// round before is not counted: what is done for the first time costs more.
///
/// Returns the samples by subject.
pub fn interleaved<S>(
    rounds: usize,
    subjects: &mut [S],
    mut sample: impl FnMut(&mut S, usize) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for position in order {
            let value = sample(&mut subjects[position], round)?;
            if round > 0 {
                samples[position].push(value);
            }
        }
    }
    Ok(samples)
}

/// Milliseconds of a duration.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Runs a program in a host from its start to its end; its output is checked for success.
///
/// The starting thread is in the host already, so that starting costs the same as for a runtime.
pub fn time(host: &Namespace, command: Command, stdin: &[u8]) -> Result<(Duration, Output)> {
    host.run(|| time_here(command, stdin))?
}

/// As [`time`], for a thread that is in the right place.
pub fn time_here(mut command: Command, stdin: &[u8]) -> Result<(Duration, Output)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // Fits into the pipe's buffer; a program that reads nothing is no error.
        let _unread = pipe.write_all(stdin);
    }
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    if !output.status.success() {
        let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        bail!("{command:?}: {}: {}", output.status, said.join(" ").trim());
    }
    Ok((took, output))
}

/// Calls `work` for each of some things in a host, so many at a time.
pub fn at_once<T: Sync>(
    host: &Namespace,
    things: &[T],
    lanes: usize,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let lane = || -> Result<()> {
        loop {
            let position = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(thing) = things.get(position) else { return Ok(()) };
            work(thing)?;
        }
    };
    let lane = &lane;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes).map(|_| scope.spawn(move || host.run(lane)?)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Waits until something is so, looking often; gives up after a time.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        rest(Duration::from_millis(1));
    }
    Ok(())
}

/// Lets time pass: between two looks, or while something is measured that goes on by itself.
#[allow(clippy::disallowed_methods)]
pub fn rest(duration: Duration) {
    thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_the_first_round_is_not_counted() {
        let mut order = Vec::new();
        let samples = interleaved(2, &mut ["a", "b"], |subject, round| {
            order.push(format!("{subject}{round}"));
            Ok(round as f64)
        });
        assert_eq!(order, ["a0", "b0", "b1", "a1", "a2", "b2"]);
        assert_eq!(samples.unwrap(), [[1.0, 2.0], [1.0, 2.0]]);
    }
}
