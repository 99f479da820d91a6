//! The socket: whose it is, and what is refused.

use crate::api_server::{self, seed};
use crate::common::text;
use crate::people::{Place, is_gone, refused};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_its_owner_s_and_is_replaced_only_when_nobody_serves_it() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let path = place.socket("run");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

    // Who serves is left alone.
    let line = ["kubernetes-kms", "--socket", &text(&path)];
    let said = refused(place.dev.command(&line), 2);
    assert!(said.contains("somebody serves") && said.contains("help: "), "{said}");
    let sealed = api.seal(&seed(1));

    // What a killed one left is replaced, and the API server comes back to it by itself.
    plugin.signal(rustix::process::Signal::KILL);
    drop(plugin);
    assert!(path.symlink_metadata().unwrap().file_type().is_socket());
    let plugin = place.plugin("run", &[]);
    api.until_well();
    api.opens(&sealed, &seed(1));

    plugin.ends();
    assert!(is_gone(&path), "SIGTERM removes it");

    // Another program's is left alone, too.
    let _other = UnixListener::bind(&path).unwrap();
    let said = refused(place.dev.command(&line), 2);
    assert!(said.contains("somebody serves"), "{said}");
    assert!(path.exists());
}

#[test]
fn a_group_is_let_in_when_it_is_named() {
    let place = Place::new();
    let group = rustix::process::getegid().as_raw().to_string();
    let plugin = place.plugin("run", &["--socket-group", &group]);
    let path = place.socket("run");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o710));
    plugin.ends();
    let said = refused(place.dev.command(&["kubernetes-kms", "--socket-group", "no-such-group"]), 2);
    assert!(said.contains("there is no group `no-such-group`"), "{said}");
}

/// A socket of a group in a directory of its owner's alone lets nobody in, which an API server would only see as no plugin.
#[test]
fn a_directory_that_the_group_cannot_enter_is_refused() {
    let place = Place::new();
    let dir = place.dev.path("shut");
    fs::create_dir(&dir).unwrap();
    let group = rustix::process::getegid().as_raw().to_string();
    let path = text(&dir.join("kms.sock"));
    let line = ["kubernetes-kms", "--socket", &path, "--socket-group", &group];
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    let said = refused(place.dev.command(&line), 2);
    assert!(said.contains("cannot enter") && said.contains("RuntimeDirectoryMode=0710"), "{said}");
    if rustix::process::geteuid().is_root() {
        // Another group's.
        std::os::unix::fs::chown(&dir, None, Some(4711)).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o710)).unwrap();
        assert!(refused(place.dev.command(&line), 2).contains("cannot enter"));
        fs::set_permissions(&dir, Permissions::from_mode(0o711)).unwrap();
        crate::common::Server::start(place.dev.command(&line)).ends();
    }
}

/// The mode is the first lock; this is what stands when somebody has opened it.
#[test]
fn another_user_is_refused_whatever_the_mode() {
    if !api_server::is_there() || !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let (plugin, mut api) = place.cluster(&[]);
    let path = place.socket("run");
    for directory in path.ancestors().skip(1).take(2) {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    let connect = "import os, socket, sys; os.setgid(65534); os.setuid(int(sys.argv[2])); \
        s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1]); \
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0') if sys.argv[2] == '0' else None; \
        print(len(s.recv(9)))";
    // What a server of HTTP/2 says first is a frame with a header of nine bytes.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(api_server::python(connect, &[&text(&path), "0"]).trim(), "9");
    assert_eq!(api_server::python(connect, &[&text(&path), "65534"]).trim(), "0");
    api.key_id();
    let log = plugin.ends();
    assert!(log.contains("refused to another user") && log.contains("user=65534"), "{log}");
}

#[test]
fn a_place_that_others_can_change_is_refused() {
    let place = Place::new();
    let dir = place.dev.path("open");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o770)).unwrap();
    let refuses = |path: &Path, words: &str| {
        let said = refused(place.dev.command(&["kubernetes-kms", "--socket", &text(path)]), 2);
        assert!(said.contains(words) && said.contains("help: "), "{said}");
    };
    refuses(&dir.join("kms.sock"), "others can write to");
    fs::set_permissions(&dir, Permissions::from_mode(0o1777)).unwrap();
    refuses(&dir.join("kms.sock"), "others can write to");
    fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
    // One that others could put another one in the place of.
    let inner = dir.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o770)).unwrap();
    refuses(&inner.join("kms.sock"), "could replace it");
    fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
    fs::write(dir.join("kms.sock"), "precious").unwrap();
    refuses(&dir.join("kms.sock"), "is no socket");
    assert_eq!(fs::read_to_string(dir.join("kms.sock")).unwrap(), "precious");
    symlink(&dir, place.dev.path("link")).unwrap();
    refuses(&place.dev.path("link/kms.sock"), "is no directory");
    refuses(Path::new("kms.sock"), "no absolute path");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(4711), None).unwrap();
        refuses(&dir.join("other.sock"), "belongs to another user");
    }
    let line = ["kubernetes-kms", "--socket", &text(&place.dev.path("a/b/kms.sock"))];
    let nowhere = refused(place.dev.command(&line), 1);
    assert!(nowhere.contains("cannot make"), "{nowhere}");
}

/// Each step of the way is looked at before anything is made at its end, and links are steps.
#[test]
fn nothing_is_made_where_others_could_have_led_to() {
    let place = Place::new();
    let [open, safe] = ["open", "safe"].map(|name| {
        let dir = place.dev.path(name);
        fs::create_dir(&dir).unwrap();
        dir
    });
    fs::set_permissions(&safe, Permissions::from_mode(0o750)).unwrap();
    symlink(&safe, open.join("link")).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o770)).unwrap();
    let refuses = |path: &Path| {
        let said = refused(place.dev.command(&["kubernetes-kms", "--socket", &text(path)]), 2);
        assert!(said.contains("could replace it") && said.contains("help: "), "{said}");
    };
    refuses(&open.join("new/kms.sock"));
    assert!(!open.join("new").exists());
    // Where it leads to now is no place of others; they could have it lead elsewhere.
    refuses(&open.join("link/run/kms.sock"));
    refuses(&open.join("link/../safe/run/kms.sock"));
    assert!(!safe.join("run").exists());
    // By a link that is nobody else's it is gone.
    let serves = |path: &Path| {
        let line = ["kubernetes-kms", "--socket", &text(path)];
        let plugin = crate::common::Server::start(place.dev.command(&line));
        assert_eq!((mode(&safe.join("run")), mode(&safe.join("run/kms.sock"))), (0o700, 0o600));
        plugin.ends();
    };
    symlink("safe", place.dev.path("link")).unwrap();
    serves(&place.dev.path("link/run/kms.sock"));
    serves(&place.dev.path("link/../safe/run/kms.sock"));
    if rustix::process::geteuid().is_root() {
        // In a sticky directory nobody moves what is another's, but everybody makes links.
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        serves(&open.join("link/run/kms.sock"));
        std::os::unix::fs::lchown(open.join("link"), Some(4711), None).unwrap();
        refuses(&open.join("link/run/kms.sock"));
    }
}
