//! An error with what caused it, in one line.

/// The error, its cause, the cause of that, and so on. Some errors name their cause themselves: what
/// the line ends with already is not said again.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;
    use minionet_netlink::Error;

    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let inner: anyhow::Result<()> = Err(Error::Io { operation: "open it".into(), source }.into());
        let error = inner.context("it needs root").unwrap_err();
        assert_eq!(chain(&error), "it needs root: cannot open it: permission denied");
        assert_eq!(chain(&anyhow::anyhow!("alone")), "alone");
    }
}
