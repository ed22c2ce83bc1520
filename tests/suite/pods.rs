//! Pods come and go: nothing is lost, left or given twice, whatever is killed, fails or breaks.

pub mod bed;
mod boot;
mod collector;
mod crowd;
mod departure;
mod faults;
mod fuzz;
mod kills;

pub mod trace;
mod upgrade;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [
        faults::trials(),
        crowd::trials(),
        collector::trials(),
        boot::trials(),
        departure::trials(),
        upgrade::trials(),
        fuzz::trials(),
        kills::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
