//! Nothing: what it costs to start a static program and to see it end.

fn main() {}
