//! The files of an ADD that loses nothing by a crash: what the plugin reads and writes below
//! `/run/minionet`, in the same order (`minionet_pods::store`), and nothing decided about it.
//!
//! What is read is thrown away, and what is written has the plugin's length; the directory, and the
//! queue of free addresses in it, must be there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd;

use crate::Outcome;

/// Octets of a configuration, of a record and of a result; those of a pod with an IPv4 address.
const PIECE: usize = 4096;
const RECORD: [u8; 640] = [b'r'; 640];
const RESULT: [u8; 464] = [b'a'; 464];
/// The head of the queue of free addresses, and one place of it.
const HEAD: usize = 32;
const PLACE: usize = 4;
/// As long as the plugin's.
const ID: &str = "00000000000000000000000000000001";

/// An attachment whose record is written and locked.
pub struct Begun {
    adding: PathBuf,
    ready: PathBuf,
    _locked: File,
}

/// Everything that has to be read and written before the kernel is asked for a link.
pub fn begin(directory: &Path, address: IpAddr) -> Outcome<Begun> {
    let mut piece = [0; PIECE];
    // SAFETY: whoever starts the floor has opened standard input, and nobody closes it.
    #[allow(unsafe_code)]
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    while unistd::read(stdin, &mut piece)? > 0 {}
    read(&directory.join("node.json"), &mut piece)?;
    read(Path::new("/proc/sys/kernel/random/boot_id"), &mut piece)?;
    let lock = directory.join("lock");
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
    exclusively(&lock)?;
    read(&directory.join("boot"), &mut piece)?;
    let [adding, ready] = ["adding", "json"].map(|end| directory.join(format!("attachments/{ID}.{end}")));
    for path in [&adding, &ready] {
        absent(File::open(path))?;
    }
    let queue = File::options().read(true).write(true).open(directory.join("queue"))?;
    queue.read_exact_at(&mut piece[..HEAD], 0)?;
    queue.read_exact_at(&mut piece[HEAD..HEAD + PLACE], HEAD as u64)?;
    let lease = directory.join(format!("leases/{address}"));
    absent(fs::read_link(&lease))?;
    queue.write_all_at(&piece[..HEAD], 0)?;
    let new = directory.join("attachments/.new");
    let mut record = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    exclusively(&record)?;
    record.write_all(&RECORD)?;
    fs::rename(&new, &adding)?;
    symlink(ID, &lease)?;
    Ok(Begun { adding, ready, _locked: record })
}

/// Marks the record as complete and writes the result.
pub fn end(begun: &Begun) -> Outcome<()> {
    fs::rename(&begun.adding, &begun.ready)?;
    // SAFETY: as for standard input.
    #[allow(unsafe_code)]
    let stdout = unsafe { BorrowedFd::borrow_raw(1) };
    unistd::write(stdout, &RESULT)?;
    Ok(())
}

/// Removes record and lease.
pub fn forget(directory: &Path, address: IpAddr) -> Outcome<()> {
    fs::remove_file(directory.join(format!("leases/{address}")))?;
    Ok(fs::remove_file(directory.join(format!("attachments/{ID}.json")))?)
}

fn read(path: &Path, piece: &mut [u8]) -> Outcome<()> {
    let length = File::open(path)?.read(piece)?;
    if length == 0 { Err(format!("{} is empty", path.display()).into()) } else { Ok(()) }
}

/// Nothing of the kind may be there.
fn absent<T>(found: io::Result<T>) -> Outcome<()> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("the last pod was not forgotten".into()),
    }
}

fn exclusively(file: &File) -> Outcome<()> {
    file.try_lock().map_err(|error| format!("a lock is not free: {error}").into())
}
