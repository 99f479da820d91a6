//! A token of SoftHSM2: the real module, over files in a directory of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The module, where Debian has it.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A directory with one token in it.
#[derive(Debug)]
pub struct Token {
    dir: TempDir,
}

impl Token {
    /// Makes one in an empty directory, which the user opens with a PIN.
    pub fn new(dir: TempDir, label: &str, pin: &str) -> Self {
        let made = Self::empty(dir);
        let done = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", pin])
            .env("SOFTHSM2_CONF", made.conf())
            .output()
            .expect("`softhsm2-util` of Debian's `softhsm2`");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        made
    }

    /// Another one, of a replicated group with this one: it has the same objects, under the same keys and PIN.
    #[must_use]
    pub fn twin(&self) -> Self {
        let twin = Self::empty(TempDir::new().unwrap());
        self.replicate(&twin);
        twin
    }

    fn empty(dir: TempDir) -> Self {
        let made = Self { dir };
        fs::create_dir(made.path("tokens")).unwrap();
        // Whoever loads the module may be elsewhere.
        let tokens = made.path("tokens").canonicalize().unwrap();
        let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(made.conf(), conf).unwrap();
        made
    }

    /// What a vendor's replication does.
    pub fn replicate(&self, to: &Self) {
        for token in fs::read_dir(self.tokens()).unwrap() {
            let token = token.unwrap();
            let there = to.tokens().join(token.file_name());
            fs::create_dir_all(&there).unwrap();
            for file in fs::read_dir(token.path()).unwrap() {
                let file = file.unwrap();
                // Written beside it, since its module may be reading.
                let (beside, place) = (to.path("beside"), there.join(file.file_name()));
                let is_new = fs::read(file.path()).ok() != fs::read(&place).ok();
                // What its own module has removed meanwhile need not be there.
                if is_new && fs::copy(file.path(), &beside).is_ok() {
                    fs::rename(beside, place).unwrap();
                }
            }
        }
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        let token = fs::read_dir(self.tokens()).unwrap().next().unwrap().unwrap().path();
        let names = fs::read_dir(token).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name != "token.object" && name.to_string_lossy().ends_with(".object")).count()
    }

    /// A file beside the token.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// SoftHSM's configuration, to be named by SOFTHSM2_CONF.
    pub fn conf(&self) -> PathBuf {
        self.path("conf")
    }

    /// What is moved away when the device is to be away.
    pub fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }
}
