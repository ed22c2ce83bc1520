//! Probers that talk to each other over a network made of data.

mod cost;
mod network;
mod restart;
mod rules;
mod sharing;
