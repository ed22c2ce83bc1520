//! Small files, read with no more system calls than it takes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How much is read at once, in octets; a file that is larger takes more calls.
const PIECE: usize = 4096;

/// Reads a file that is replaced as a whole, or a setting of `/proc`: what comes short is its end.
///
/// `std::fs::read_to_string` asks for the size before, and for the end behind.
///
/// # Errors
/// As of opening and reading; `InvalidData` where it is no text.
pub fn read(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let length = match file.read(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        content.extend_from_slice(&piece[..length]);
        if length < PIECE {
            let no_text =
                |_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
            return String::from_utf8(content).map_err(no_text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_size_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let text: String = (0..size).map(|position| char::from(b'a' + (position % 26) as u8)).collect();
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read(&path).unwrap(), text);
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(Path::new("/proc/uptime")).unwrap().lines().count(), 1);
    }
}
