//! Limits of a pod's traffic (`bandwidth`, CONVENTIONS.md of the specification), and the token
//! buckets that enforce them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::conf::{ConfError, integer};
use super::error::{Code, Coded};
use super::json::{brief, get};

/// Where the limits stand in the configuration.
const KEY: &str = "runtimeConfig.bandwidth";

/// The burst that runtimes send when nobody asked for one, in bits: the greatest of 32 bits
/// (containerd, internal/cri/server/sandbox_run.go), or eight times as much (CRI-O). From here on
/// a burst says nothing.
const NO_OPINION: u64 = u32::MAX as u64;

/// The least rate that can be kept, in bits per second: one octet.
const LEAST_RATE: u64 = 8;

/// How much may be sent at once where no burst was asked for, as time at the full rate in
/// milliseconds. Long enough for the pauses of a virtual machine's clock, and short enough that a
/// second's average is right to a twentieth; the 512 MiB that runtimes send make the limit
/// disappear (kubernetes issue 90838).
const BURST_MS: u64 = 50;

/// The largest packet that the kernel hands over in one piece, in octets: a smaller bucket takes
/// it apart first, which costs far more than passing it on (`GSO_LEGACY_MAX_SIZE`,
/// include/linux/netdevice.h).
const WHOLE_PACKET: u64 = 65536;

/// The least burst in octets where a smaller one was asked for: two full frames of Ethernet. A
/// packet that is larger than the bucket is dropped, always.
const LEAST_BURST: u64 = 2 * 1514;

/// How long a packet may wait in the queue, in milliseconds at the full rate. The reference
/// plugin's 25 ms hold less than two packets at 1 Mbit/s.
const QUEUE_MS: u64 = 50;

/// A token bucket with a queue before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// How fast it fills, in octets per second; not 0.
    pub rate: u64,
    /// How much it holds, in octets.
    pub burst: u32,
    /// How much waits for it at most, in octets; what comes then is dropped.
    pub queue: u32,
}

/// The limits of one attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What the pod receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Bucket>,
    /// What the pod sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Bucket>,
}

/// Why limits are refused.
#[derive(Debug, Error)]
pub enum BandwidthError {
    /// A key has a value of the wrong kind.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// Not a whole number that is not negative.
    #[error("{KEY}.{key} is {found}, not a whole number of {unit}")]
    Number {
        /// The key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// "bits" or "bits per second".
        unit: &'static str,
    },
    /// Less than an octet per second.
    #[error("{KEY}.{key} is {rate}: the least that can be kept is {LEAST_RATE} bits per second")]
    Rate {
        /// The key.
        key: &'static str,
        /// The rate in bits per second.
        rate: u64,
    },
    /// A burst of nothing.
    #[error("{KEY}.{burst_key} is set, but not {rate_key}: set both, or leave both out")]
    BurstOnly {
        /// The key of the burst.
        burst_key: &'static str,
        /// The key of the rate that is missing.
        rate_key: &'static str,
    },
}

impl Coded for BandwidthError {
    fn code(&self) -> Code {
        match self {
            BandwidthError::Conf(error) => error.code(),
            _ => Code::InvalidConfig,
        }
    }
}

impl Bucket {
    /// The bucket for a rate in bits per second and a burst in bits.
    ///
    /// A burst that somebody chose is kept, raised to two frames and cut to what the kernel can
    /// count; without one it is 50 ms at the full rate and at least 64 KiB.
    fn new(rate: u64, burst: Option<u64>) -> Self {
        let rate = rate / 8;
        let during = |ms: u64| u128::from(rate) * u128::from(ms) / 1000;
        let burst = match burst.filter(|bits| *bits < NO_OPINION) {
            Some(bits) => u128::from((bits / 8).max(LEAST_BURST)),
            None => during(BURST_MS).max(u128::from(WHOLE_PACKET)),
        };
        // Room for what is too large for the bucket, until it was taken apart.
        let queue = burst + during(QUEUE_MS).max(u128::from(WHOLE_PACKET));
        let cut = |octets: u128| u32::try_from(octets).unwrap_or(u32::MAX);
        Bucket { rate, burst: cut(burst), queue: cut(queue) }
    }
}

impl Bandwidth {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Bandwidth::default()
    }

    /// Reads the limits of a runtime; nothing, or a rate of 0, is no limit.
    ///
    /// # Errors
    /// [`BandwidthError`].
    pub fn read(value: Option<&Value>) -> Result<Self, BandwidthError> {
        let Some(value) = value else { return Ok(Bandwidth::default()) };
        let map = value.as_object().ok_or_else(|| ConfError::kind(KEY, "an object", value))?;
        Ok(Bandwidth {
            ingress: bucket(map, "ingressRate", "ingressBurst")?,
            egress: bucket(map, "egressRate", "egressBurst")?,
        })
    }
}

fn bucket(
    map: &Map<String, Value>,
    rate_key: &'static str,
    burst_key: &'static str,
) -> Result<Option<Bucket>, BandwidthError> {
    let rate = number(map, rate_key, "bits per second")?;
    let burst = number(map, burst_key, "bits")?;
    match (rate, burst) {
        (None, None) => Ok(None),
        // Not a choice of anybody's: the runtime fills it in.
        (None, Some(bits)) if bits >= NO_OPINION => Ok(None),
        (None, Some(_)) => Err(BandwidthError::BurstOnly { burst_key, rate_key }),
        (Some(rate), _) if rate < LEAST_RATE => Err(BandwidthError::Rate { key: rate_key, rate }),
        (Some(rate), burst) => Ok(Some(Bucket::new(rate, burst))),
    }
}

/// A number; 0 is none, as Go leaves it where nothing is set.
fn number(
    map: &Map<String, Value>,
    key: &'static str,
    unit: &'static str,
) -> Result<Option<u64>, BandwidthError> {
    let Some(value) = get(map, key) else { return Ok(None) };
    let number = integer(value);
    let number = number.ok_or_else(|| BandwidthError::Number { key, found: brief(value), unit })?;
    Ok(Some(number).filter(|number| *number != 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Bandwidth, BandwidthError> {
        Bandwidth::read(Some(&value))
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let containerd = json!({"IngressRate": 8_000_000, "IngressBurst": 800_000, "EgressRate": 0});
        let crio = json!({"ingressRate": 8e6, "ingressBurst": 8e5, "egressBurst": 0});
        let wanted = Bucket { rate: 1_000_000, burst: 100_000, queue: 165_536 };
        for value in [containerd, crio] {
            assert_eq!(read(value).unwrap(), Bandwidth { ingress: Some(wanted), egress: None });
        }
        assert!(Bandwidth::read(None).unwrap().is_unlimited());
        assert!(read(json!({})).unwrap().is_unlimited());
    }

    #[test]
    fn a_burst_that_nobody_chose_is_cut_to_something_sensible() {
        for burst in [json!(4294967295u64), json!(34359738360u64), json!(null), json!(0)] {
            let slow = read(json!({"egressRate": 1_000_000, "egressBurst": burst})).unwrap().egress.unwrap();
            assert_eq!((slow.rate, slow.burst), (125_000, 65_536));
            let fast =
                read(json!({"egressRate": 1_000_000_000, "egressBurst": burst})).unwrap().egress.unwrap();
            assert_eq!((fast.rate, fast.burst), (125_000_000, 6_250_000));
        }
        let none = read(json!({"ingressBurst": 4294967295u64})).unwrap();
        assert!(none.is_unlimited());
    }

    #[test]
    fn extremes_stay_countable() {
        let small = read(json!({"egressRate": 8, "egressBurst": 1})).unwrap().egress.unwrap();
        assert_eq!((small.rate, small.burst), (1, 3028));
        let rounded = read(json!({"egressRate": 1e18})).unwrap().egress.unwrap();
        assert_eq!(rounded.rate, 125_000_000_000_000_000);
        assert!(read(json!({"egressRate": 1e20})).is_err(), "more than can be counted");
        let huge = read(json!({"egressRate": 1u64 << 53})).unwrap().egress.unwrap();
        assert_eq!((huge.rate, huge.burst, huge.queue), (1 << 50, u32::MAX, u32::MAX));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (value, key) in [
            (json!({"ingressRate": -1}), "ingressRate"),
            (json!({"egressRate": "1M"}), "egressRate"),
            (json!({"egressRate": 1.5}), "egressRate"),
            (json!({"egressRate": 7}), "least"),
            (json!({"egressBurst": 1000}), "egressRate"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            assert_eq!(error.code(), Code::InvalidConfig);
        }
        assert_eq!(read(json!([])).unwrap_err().code(), Code::Decode);
    }
}
