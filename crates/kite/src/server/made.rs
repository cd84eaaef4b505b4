//! The files of a listener, for tests.

use kite_testkit::certificates::Made;
use std::path::Path;
use tempfile::TempDir;

use super::TlsSettings;

pub(super) struct Files {
    _directory: TempDir,
    pub(super) settings: TlsSettings,
}

impl Files {
    pub(super) fn of(made: &Made) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let settings = TlsSettings { certificate_file: at("chain.pem"), key_file: at("key.pem") };
        let files = Self { _directory: directory, settings };
        files.put(made);
        files
    }

    /// Another certificate and its key.
    pub(super) fn put(&self, made: &Made) {
        write(&self.settings.certificate_file, &made.certificate);
        write(&self.settings.key_file, &made.key);
    }
}

pub(super) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
