//! What an earlier boot left, where the state directory outlived it.

use std::fs;
use std::io;

use super::StoreError;
use super::lock::Locked;
use super::records::Stage;
use crate::files;

impl Locked<'_> {
    /// Drops the records of every boot but this; their leases are free with that.
    pub(super) fn forget_earlier_boots(&mut self, current: &str) -> Result<(), StoreError> {
        let marker = self.store.root.join("boot");
        if current.is_empty() || files::read(&marker).is_ok_and(|text| text == current) {
            return Ok(());
        }
        for id in self.store.recorded()? {
            for stage in [Stage::Adding, Stage::Ready] {
                let path = self.store.record_path(id, stage);
                let boot = match fs::read(&path) {
                    Ok(text) => boot_of(&text),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(StoreError::io("read", &path)(source)),
                };
                // One that tells no boot may be of a later version; the collector judges it.
                if boot.is_some_and(|boot| !boot.is_empty() && boot != current) {
                    fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                }
            }
        }
        // Where it cannot be written, the next call looks again.
        let _again = fs::write(&marker, current);
        Ok(())
    }
}

/// The boot in a record of whatever format.
fn boot_of(text: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    Some(value.get("boot")?.as_str()?.to_owned())
}
