//! Key files, in the format of BIND, which `tsig-keygen` writes and `nsupdate -k` reads.

use std::fmt;

use data_encoding::BASE64;
use thiserror::Error;

/// The least octets of a secret that are worth anything (RFC 2104 section 3: less than the hash's
/// length weakens the code; 16 octets are beyond every search).
const LEAST: usize = 16;

/// A key that signs updates (TSIG, RFC 8945).
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name, which the server must know it by; fully qualified.
    pub name: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The secret.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is in no log.
        write!(f, "Key({} {})", self.name, self.algorithm)
    }
}

/// Algorithms of TSIG: those of RFC 8945 section 6 that are not discouraged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha256
    Sha256,
    /// hmac-sha384
    Sha384,
    /// hmac-sha512
    Sha512,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Algorithm::Sha256 => "hmac-sha256",
            Algorithm::Sha384 => "hmac-sha384",
            Algorithm::Sha512 => "hmac-sha512",
        })
    }
}

/// Why a key file cannot be used. The texts never hold what may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the format.
    #[error("{found} instead of {expected}; make the file with: tsig-keygen -a hmac-sha256 NAME")]
    Syntax {
        /// What is there, as a kind.
        found: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// An algorithm that is weak or unknown.
    #[error(
        "the algorithm {0} is not supported: make a key with hmac-sha256, hmac-sha384 or hmac-sha512, on the server as well"
    )]
    Algorithm(String),
    /// The secret is no base64.
    #[error("the secret is not base64 (RFC 4648 section 4)")]
    Secret,
    /// The secret can be guessed.
    #[error("the secret has {0} octets, less than {LEAST}: make another with tsig-keygen")]
    Short(usize),
}

impl Key {
    /// Reads `key "name" { algorithm hmac-sha256; secret "…"; };`, with comments, and nothing else.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong, and never the secret.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut words = Words { rest: text };
        words.keyword("key")?;
        let name = words.value("the name of the key")?;
        words.symbol('{', "{")?;
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match words.next() {
                Some(Word::Symbol('}')) => break,
                Some(Word::Text("algorithm")) => algorithm = Some(words.value("an algorithm")?),
                Some(Word::Text("secret")) => secret = Some(words.value("a secret")?),
                other => return Err(syntax(other, "algorithm, secret or }")),
            }
            words.symbol(';', ";")?;
        }
        words.symbol(';', ";")?;
        if let Some(word) = words.next() {
            return Err(syntax(Some(word), "the end of the file: one key alone"));
        }
        let missing = |expected| KeyError::Syntax { found: "nothing", expected };
        let algorithm =
            match algorithm.ok_or(missing("algorithm"))?.to_ascii_lowercase().trim_end_matches('.') {
                "hmac-sha256" => Algorithm::Sha256,
                "hmac-sha384" => Algorithm::Sha384,
                "hmac-sha512" => Algorithm::Sha512,
                other => return Err(KeyError::Algorithm(other.to_owned())),
            };
        let secret = secret.ok_or(missing("secret"))?;
        let secret = BASE64.decode(secret.as_bytes()).map_err(|_| KeyError::Secret)?;
        if secret.len() < LEAST {
            return Err(KeyError::Short(secret.len()));
        }
        let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
        Ok(Key { name, algorithm, secret })
    }
}

#[derive(Clone, Copy)]
enum Word<'a> {
    Symbol(char),
    Text(&'a str),
    Broken,
}

/// The words of a configuration file of BIND.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        if "{};".contains(first) {
            self.rest = &self.rest[1..];
            return Some(Word::Symbol(first));
        }
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let Some(end) = quoted.find('"') else {
                self.rest = "";
                return Some(Word::Broken);
            };
            self.rest = &quoted[end + 1..];
            return Some(Word::Text(&quoted[..end]));
        }
        let end = |c: char| c.is_whitespace() || "{};\"".contains(c);
        let end = self.rest.find(end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Word::Text(word))
    }

    /// Passes over blanks and the three kinds of comments.
    fn skip_blank(&mut self) {
        loop {
            let text = self.rest.trim_start();
            let after = |end: &str| text.find(end).map_or("", |at| &text[at + end.len()..]);
            self.rest = match text {
                _ if text.starts_with("/*") => after("*/"),
                _ if text.starts_with("//") || text.starts_with('#') => after("\n"),
                _ => break self.rest = text,
            };
        }
    }

    fn keyword(&mut self, expected: &'static str) -> Result<(), KeyError> {
        match self.next() {
            Some(Word::Text(word)) if word == expected => Ok(()),
            other => Err(syntax(other, expected)),
        }
    }

    fn symbol(&mut self, symbol: char, expected: &'static str) -> Result<(), KeyError> {
        match self.next() {
            Some(Word::Symbol(found)) if found == symbol => Ok(()),
            other => Err(syntax(other, expected)),
        }
    }

    fn value(&mut self, expected: &'static str) -> Result<&'a str, KeyError> {
        match self.next() {
            Some(Word::Text(word)) if !word.is_empty() => Ok(word),
            other => Err(syntax(other, expected)),
        }
    }
}

fn syntax(found: Option<Word<'_>>, expected: &'static str) -> KeyError {
    let found = match found {
        None => "the end of the file",
        Some(Word::Symbol(_)) => "a sign",
        Some(Word::Text(_)) => "another word",
        Some(Word::Broken) => "a text without its closing quote",
    };
    KeyError::Syntax { found, expected }
}
