//! STATUS: whether an ADD would work.

use minionet_core::cni::conf::NetConf;
use minionet_core::cni::{Code, Failure, Version};

use crate::facts::{self, Directories};

/// Carries out STATUS.
pub fn status(conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    if conf.version < Version::V1_1_0 {
        return Err(Failure {
            code: Code::IncompatibleVersion,
            message: "config version does not allow STATUS".into(),
            details: Some(format!("config is {}, STATUS came with 1.1.0", conf.version)),
        });
    }
    conf.settings()?;
    match facts::load(dirs) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure { code: Code::Unavailable, ..error.into() }),
    }
}
