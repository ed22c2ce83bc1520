//! The plugin as a black box: the real program, called as any runtime may call it.
//!
//! The cases are those of the specification 1.1.0 and of the projects around it; `docs/cni.md`
//! has the table of demands and tests.

mod add;
mod add_failure;
mod beside;
mod chain;
mod check;
mod config;
mod del;
mod env;
mod gc;
mod namespaces;
mod parallel;
mod requests;
mod results;
mod status;
mod stdio;
pub mod support;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [
        env::trials(),
        stdio::trials(),
        config::trials(),
        results::trials(),
        add::trials(),
        requests::trials(),
        beside::trials(),
        add_failure::trials(),
        namespaces::trials(),
        del::trials(),
        check::trials(),
        gc::trials(),
        status::trials(),
        chain::trials(),
        parallel::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
