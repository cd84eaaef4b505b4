//! What lies in the data directory is for nobody else.

use super::house::Kite;
use anyhow::ensure;
use reqwest::StatusCode;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[tokio::test]
async fn a_process_keeps_its_files_to_itself_whatever_it_was_started_under() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = Kite::start_where_files_are_open_to_all(&data)?;
    process.create_tenant("acme").await?;
    process.wait_for_ready(StatusCode::OK, "secrets", "").await?;
    let mode = |path: &Path| path.metadata().map(|found| found.permissions().mode() & 0o777);
    ensure!(mode(&data)? == 0o700, "the directory: {:o}", mode(&data)?);
    let mut files = 0;
    for entry in std::fs::read_dir(&data)? {
        let path = entry?.path();
        ensure!(mode(&path)? == 0o600, "{}: {:o}", path.display(), mode(&path)?);
        files += 1;
    }
    ensure!(files > 5, "the log, the read models and what belongs to them: {files}");
    process.stop()
}
