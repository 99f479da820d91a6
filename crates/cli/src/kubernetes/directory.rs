//! The directory of the socket: it decides who can put another socket there. It is gone to step by step from the root, and each step is looked at before the
//! next is taken, links too; so nothing is made where others could have led to, and nobody but root and its own user can put another one in its place.

use super::socket::MEMBER;
use crate::failure::Failure;
use rustix::fs::{AtFlags, Mode, OFlags, chownat, mkdirat, openat, readlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// A step, which reads nothing and follows no link.
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// As many links as the system follows itself (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Goes to a directory, and makes it if it is not there.
///
/// # Errors
/// When others can write to it or to one on the way there, it is no directory, or the group cannot enter it.
pub(super) fn reach(directory: &Path, group: Option<u32>) -> Result<File, Failure> {
    let own = rustix::process::geteuid().as_raw();
    let looked = |error: Errno| Failure::file("look at", directory, &error.into());
    let mut way = Way { at: root().map_err(looked)?, shown: PathBuf::from("/"), ahead: vec![] };
    way.goes_on(directory);
    let mut links = 0;
    while let Some(name) = way.ahead.pop() {
        unmovable(&way, directory, own)?;
        let is_last = way.ahead.is_empty();
        let next = match openat(&way.at, &name, STEP, Mode::empty()) {
            Err(Errno::NOENT) if is_last => made(&way.at, &name, directory, group)?,
            Err(error @ Errno::NOENT) => return Err(Failure::file("make", directory, &error.into())),
            next => File::from(next.map_err(looked)?),
        };
        let meta = look(&next, directory)?;
        if !meta.is_symlink() || is_last {
            way.at = next;
            way.shown.push(name);
            continue;
        }
        // In a sticky directory it may be anybody's.
        if is_others(&meta, own) {
            return Err(replaceable(directory, &way.shown.join(name)));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(looked(Errno::LOOP));
        }
        let target = readlinkat(&next, "", vec![]).map_err(looked)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            (way.at, way.shown) = (root().map_err(looked)?, PathBuf::from("/"));
        }
        way.goes_on(&target);
    }
    fit(&look(&way.at, directory)?, directory, (own, group))?;
    Ok(way.at)
}

/// How far it has been gone, and what lies ahead, the next step last.
struct Way {
    at: File,
    shown: PathBuf,
    ahead: Vec<OsString>,
}

impl Way {
    fn goes_on(&mut self, path: &Path) {
        let steps = path.components().filter_map(|step| match step {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        });
        self.ahead.extend(steps.collect::<Vec<_>>().into_iter().rev());
    }
}

fn root() -> Result<File, Errno> {
    rustix::fs::open("/", STEP, Mode::empty()).map(File::from)
}

fn look(file: &File, directory: &Path) -> Result<Metadata, Failure> {
    file.metadata().map_err(|error| Failure::file("look at", directory, &error))
}

fn is_others(meta: &Metadata, own: u32) -> bool {
    meta.uid() != own && meta.uid() != 0
}

/// Makes it, or takes the one that somebody has just made.
fn made(above: &File, name: &OsStr, directory: &Path, group: Option<u32>) -> Result<File, Failure> {
    let failed = |what: &str, error: Errno| Failure::file(what, directory, &io::Error::from(error));
    match mkdirat(above, name, Mode::from_raw_mode(if group.is_some() { 0o710 } else { 0o700 })) {
        Ok(()) => {
            let group = group.map(rustix::fs::Gid::from_raw);
            chownat(above, name, None, group, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("set the group of", error).remedy(MEMBER))?;
        }
        Err(Errno::EXIST) => {}
        Err(error) => return Err(failed("make", error)),
    }
    openat(above, name, STEP, Mode::empty()).map(File::from).map_err(|error| failed("look at", error))
}

/// Whoever can write to a directory above it can put another one in its place.
fn unmovable(way: &Way, directory: &Path, own: u32) -> Result<(), Failure> {
    let meta = look(&way.at, directory)?;
    // In a sticky one nobody moves what is another's (unlink(2)).
    let is_open = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
    match is_others(&meta, own) || is_open {
        true => Err(replaceable(directory, &way.shown)),
        false => Ok(()),
    }
}

fn replaceable(directory: &Path, above: &Path) -> Failure {
    let (above, shown) = (above.display(), directory.display());
    Failure::usage(format!(
        "`{shown}` lies in `{above}`, whose owner or writers could replace it, and so the socket"
    ))
    .remedy("name a socket in a directory below ones that are root's or your own, as /run/holdfast")
}

/// Whether the directory itself is one for a socket that nobody else replaces and its group can reach.
fn fit(meta: &Metadata, directory: &Path, (own, group): (u32, Option<u32>)) -> Result<(), Failure> {
    let shown = directory.display();
    if !meta.is_dir() {
        return Err(Failure::usage(format!("`{shown}` is no directory"))
            .remedy("name a socket in a directory, not behind a link"));
    }
    if is_others(meta, own) {
        return Err(Failure::usage(format!(
            "`{shown}` belongs to another user, who could replace the socket"
        ))
        .remedy(format!("`chown {own} {shown}`, or name a socket in a directory of your own")));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Failure::usage(format!(
            "others can write to `{shown}`, and so could replace the socket"
        ))
        .remedy(format!("`chmod go-w {shown}`, or name a socket in a directory of its own")));
    }
    if let Some(group) = group {
        let enters = if meta.gid() == group { 0o010 } else { 0o001 };
        if meta.mode() & enters == 0 {
            return Err(Failure::usage(format!(
                "group {group} cannot enter `{shown}`, and so cannot connect to a socket there"
            ))
            .remedy(format!(
                "`chgrp {group} {shown} && chmod g+x {shown}`; if a systemd unit makes it, `Group=` and `RuntimeDirectoryMode=0710`, as in deploy/kubernetes/holdfast-kms-group.conf"
            )));
        }
    }
    Ok(())
}
