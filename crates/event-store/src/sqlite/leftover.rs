//! The write-ahead log that the last process left behind, made durable before SQLite uses it.
//!
//! After a failed fsync the system keeps the unwritten data in memory and takes it for written: this process reads
//! it, a second fsync finds nothing to do, and SQLite copies it into the database, page by page. If power fails half
//! way, the log on the disk cannot complete the copy, and the database is broken for good. So every byte of it is
//! written again, as it is, and synced. Other readers of the log see no difference.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PIECE_BYTES: usize = 1024 * 1024;

/// Writes the write-ahead log of this database once more, if there is one. Only for the holder of the lock.
pub(super) fn write_again(database: &Path) -> io::Result<()> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let file = match File::options().read(true).write(true).open(PathBuf::from(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let bytes = file.read_at(&mut piece, offset)?;
        if bytes == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..bytes], offset)?;
        offset += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("log.sqlite");
        write_again(&database).unwrap();
        let left: Vec<u8> = (0..PIECE_BYTES * 2 + 777).map(|place| (place % 251) as u8).collect();
        let log = directory.path().join("log.sqlite-wal");
        std::fs::write(&log, &left).unwrap();
        write_again(&database).unwrap();
        assert_eq!(std::fs::read(log).unwrap(), left);
    }
}
