use std::{fs, path::PathBuf};

use bytes::Bytes;

/// The files of `tests/golden/` of a crate: what it keeps in a store. Services of all versions read and write them, so a file may
/// be added and none may change.
#[derive(Clone, Copy, Debug)]
pub struct Golden(&'static str);

impl Golden {
    /// Makes the files of the crate in this folder, which is `env!("CARGO_MANIFEST_DIR")`.
    pub const fn of(folder: &'static str) -> Self {
        Self(folder)
    }

    /// Reads a file.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn read(&self, name: &str) -> Bytes {
        let path = PathBuf::from(self.0).join("tests/golden").join(name);
        let bytes = fs::read(&path);
        let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        bytes.into()
    }

    /// Compares what is written today with a file, and returns the file.
    ///
    /// # Panics
    ///
    /// If they differ.
    #[track_caller]
    pub fn check(&self, name: &str, written: &[u8]) -> Bytes {
        let golden = self.read(name);
        assert_eq!(
            written.escape_ascii().to_string(),
            golden.escape_ascii().to_string(),
            "{name}"
        );
        golden
    }
}
