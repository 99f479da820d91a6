//! Small file systems of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs; unmounted when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of so many MiB; `None` where that is not possible, which is said, and is a failure where it must be possible.
    pub fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "holdfast-test"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_path_buf()));
        }
        assert!(
            std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none() || !rustix::process::geteuid().is_root(),
            "no tmpfs can be mounted, and HOLDFAST_REQUIRE_TOOLS is set"
        );
        eprintln!("SKIPPED: only root can mount a tmpfs; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure");
        None
    }

    /// Makes it read-only, or writable again.
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let mounted = Command::new("mount").args(["-o", options]).arg(&self.0).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    }

    /// Bytes that can still be written.
    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).unwrap();
        found.f_bavail * found.f_frsize
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
