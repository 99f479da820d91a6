//! One age file of a tree: its header read, and written anew beside the old file, whose name it takes when it is durable.

use super::walk::PREFIX;
use crate::agefile::{AGE_MAGIC, ARMOUR_MAGIC, Header, NoHeader};
use crate::atomic::parent;
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use std::fs::{File, FileTimes, Metadata};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// An age file with its header.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    is_armoured: bool,
    seen: Metadata,
}

impl Sheet {
    /// Reads a file's header; `None` for what is no age file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, NoHeader> {
        let mut file = File::open(path)?;
        let seen = file.metadata()?;
        let mut head = vec![];
        (&file).take(ARMOUR_MAGIC.len() as u64).read_to_end(&mut head)?;
        file.rewind()?;
        let is_armoured = head == ARMOUR_MAGIC;
        let header = if is_armoured {
            Header::read(BufReader::new(ArmoredReader::new(BufReader::new(file))))?
        } else if head.starts_with(AGE_MAGIC) {
            Header::read(BufReader::new(file))?
        } else {
            return Ok(None);
        };
        Ok(Some(Self { path: path.to_owned(), header, is_armoured, seen }))
    }

    /// Whether the file is the one that was read, untouched since.
    fn is_untouched(&self, now: &Metadata) -> bool {
        let of = |file: &Metadata| {
            [
                file.dev(),
                file.ino(),
                file.size(),
                file.mtime().cast_unsigned(),
                file.mtime_nsec().cast_unsigned(),
            ]
        };
        of(now) == of(&self.seen)
    }

    /// Writes the file with another header and the same payload beside it, syncs it, and lets it take the name. Owner, permissions and
    /// time of modification stay.
    ///
    /// # Errors
    /// What the system says; then the old file is as it was.
    pub(super) fn replace(&self, header: &[u8]) -> io::Result<()> {
        let Self { path, is_armoured, seen, .. } = self;
        let changed = || io::Error::other("the file was changed meanwhile");
        let mut old = File::open(path)?;
        if !self.is_untouched(&old.metadata()?) {
            return Err(changed());
        }
        let mut new = NamedTempFile::with_prefix_in(PREFIX, parent(path))?;
        if *is_armoured {
            let mut reader = BufReader::new(ArmoredReader::new(BufReader::new(old)));
            pass_header(&mut reader)?;
            let mut writer = ArmoredWriter::wrap_output(&mut new, Format::AsciiArmor)?;
            writer.write_all(header)?;
            io::copy(&mut reader, &mut writer)?;
            writer.finish()?.flush()?;
        } else {
            let mut reader = BufReader::new(&mut old);
            pass_header(&mut reader)?;
            let payload = reader.stream_position()?;
            drop(reader);
            old.seek(io::SeekFrom::Start(payload))?;
            new.write_all(header)?;
            // From file to file: the kernel copies, where it can without reading.
            io::copy(&mut old, new.as_file_mut())?;
        }
        let file = new.as_file();
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (seen.uid(), seen.gid()) {
            fchown(file, Some(seen.uid()), Some(seen.gid()))?;
        }
        file.set_permissions(seen.permissions())?;
        file.set_times(FileTimes::new().set_modified(seen.modified()?).set_accessed(seen.accessed()?))?;
        file.sync_all()?;
        if !self.is_untouched(&path.symlink_metadata()?) {
            return Err(changed());
        }
        new.persist(path).map(drop).map_err(|error| error.error)
    }
}

fn pass_header(reader: &mut impl BufRead) -> io::Result<()> {
    Header::read(reader).map(drop).map_err(|error| match error {
        NoHeader::Io(error) => error,
        NoHeader::Malformed(problem) => io::Error::other(problem),
    })
}

/// Makes new names in these files' directories durable.
pub(super) fn sync_directories<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let mut directories: Vec<&Path> = paths.map(parent).collect();
    directories.sort_unstable();
    directories.dedup();
    directories.into_iter().try_for_each(|directory| File::open(directory)?.sync_all())
}
