//! Files: any size, whole or not at all, and opened and made by stock `age` and `rage` too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use common::{Dev, PLUGIN, code, stderr, text, tool};
use std::path::Path;
use std::process::{Command, Stdio};

/// Something of several pieces of 64 KiB that ends in the middle of one.
fn content() -> Vec<u8> {
    (0..1_500_000_u32).flat_map(u32::to_le_bytes).take(5_000_001).collect()
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn round_trips() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    dev.ok(&["key", "create", "kek", "--purpose", "wrap"]);
    let large = content();
    for (name, bytes) in
        [("empty", &b""[..]), ("small", b"x"), ("piece", &large[..65_536]), ("large", &large)]
    {
        for key in ["k", "kek"] {
            let (sealed, opened) = (format!("{name}.{key}.age"), format!("{name}.{key}"));
            dev.ok(&["encrypt", &dev.file(name, bytes), "--key", key, "-o", &sealed, "--context", "a=b"]);
            dev.ok(&["decrypt", &sealed, "-o", &opened, "--context", "a=b"]);
            assert!(std::fs::read(dev.path(&opened)).unwrap() == bytes, "{opened}");
        }
    }
    let piped = dev.run_with(&["encrypt", "-", "--key", "k"], &large);
    let back = dev.run_with(&["decrypt", "-"], &piped.stdout);
    assert!(back.stdout == large, "{}", stderr(&back));
    let recipient = dev.ok(&["key", "recipient", "k", "--context", "a=b"]);
    dev.ok(&["encrypt", "small", "-r", recipient.trim(), "-o", "by-recipient"]);
    assert_eq!(dev.ok(&["decrypt", "by-recipient", "--context", "a=b"]), "x");

    dev.ok(&["key", "rotate", "k"]);
    assert_eq!(dev.ok(&["decrypt", "small.k.age", "--context", "a=b"]), "x");
}

#[test]
fn what_cannot_be_opened_leaves_nothing() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    dev.file("plain", &content());
    dev.ok(&["encrypt", "plain", "--key", "k", "-o", "sealed", "--context", "a=b"]);
    let mut cut = std::fs::read(dev.path("sealed")).unwrap();
    cut.truncate(cut.len() - 1);
    dev.file("cut", &cut);
    let mut flipped = std::fs::read(dev.path("sealed")).unwrap();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    dev.file("flipped", &flipped);
    let before = entries(dev.dir.path());
    dev.fails(&["decrypt", "cut", "-o", "out", "--context", "a=b"], 6);
    dev.fails(&["decrypt", "flipped", "-o", "out", "--context", "a=b"], 6);
    dev.fails(&["decrypt", "sealed", "-o", "out"], 6);
    dev.fails(&["decrypt", "sealed", "-o", "out", "--key", "other", "--context", "a=b"], 5);
    dev.fails(&["decrypt", "sealed", "-o", "sealed", "--context", "a=b"], 1);
    dev.fails(&["encrypt", "plain", "--key", "missing", "-o", "out"], 5);
    dev.fails(&["encrypt", "nowhere", "--key", "k", "-o", "out"], 1);
    dev.fails(&["encrypt", "plain", "--key", "k", "-o", "nowhere/out"], 1);
    dev.fails(&["encrypt", "plain", "--key", "k", "--context", "holdfast-purpose=x", "-o", "out"], 2);
    assert_eq!(entries(dev.dir.path()), before);
    dev.ok(&["key", "suspend", "k"]);
    dev.fails(&["decrypt", "sealed", "-o", "out", "--context", "a=b"], 5);
    assert_eq!(entries(dev.dir.path()), before);
}

/// Wraps the file key under each of these keys, with these pairs, and writes a stanza for each.
struct Under<'a>(&'a Dev, &'a [(&'a str, &'a str)]);

impl age::Recipient for Under<'_> {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, std::collections::HashSet<String>), age::EncryptError> {
        let Self(dev, keys) = self;
        let tenant = common::dev::tenant(&dev.data(), &dev.server.url);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stanza = |(key, pair): &(&str, &str)| {
            let pairs = [("bound", *pair), ("holdfast-purpose", "age-file-key")];
            let name = key.parse().unwrap();
            let wrapped = runtime.block_on(tenant.encrypt(&name, file_key.expose_secret(), &pairs)).unwrap();
            let args = ["1", "dev", key].map(str::to_owned).to_vec();
            Stanza { tag: "holdfast".to_owned(), args, body: wrapped.body.ciphertext.0.clone() }
        };
        Ok((keys.iter().map(stanza).collect(), std::collections::HashSet::new()))
    }
}

/// A file with a stanza for each of several keys.
fn under(dev: &Dev, name: &str, keys: &[(&str, &str)]) {
    use std::io::Write as _;
    let recipients = Under(dev, keys);
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&recipients as &dyn age::Recipient)).unwrap();
    let mut sealed = vec![];
    let mut stream = encryptor.wrap_output(&mut sealed).unwrap();
    stream.write_all(b"text").unwrap();
    stream.finish().unwrap();
    dev.file(name, &sealed);
}

#[test]
fn a_file_for_several_keys_opens_by_whichever_opens_it() {
    let dev = Dev::start();
    for key in ["stopped", "bound", "open", "last"] {
        dev.ok(&["key", "create", key]);
    }
    under(&dev, "all", &[("stopped", "a"), ("bound", "b"), ("open", "a"), ("last", "a")]);
    under(&dev, "none", &[("bound", "b"), ("stopped", "a")]);
    dev.ok(&["key", "suspend", "stopped"]);
    let open = ["decrypt", "all", "--context", "bound=a"];
    assert_eq!(dev.ok(&open), "text");
    assert_eq!(dev.ok(&[&open[..], &["--key", "last"]].concat()), "text");
    // Nobody asks for what comes behind the one that opens.
    let asked = dev.ok(&["audit", "search", "--action", "decrypt", "--key", "last", "--json"]);
    assert_eq!(asked.lines().count(), 1, "{asked}");

    // Nor for more of them than so many, whatever the file has.
    let many: Vec<_> = std::iter::repeat_n(("bound", "b"), 40).collect();
    under(&dev, "many", &many);
    let said = dev.fails(&["decrypt", "many", "--context", "bound=a"], 6);
    assert!(said.contains("after 32 attempts to open it nothing more is tried"), "{said}");
    let asked = dev.ok(&["audit", "search", "--action", "decrypt", "--key", "bound", "--json"]);
    assert_eq!(asked.lines().count(), 1 + 32, "{asked}");

    // A stop is told first, and the rest behind it.
    let said = dev.fails(&["decrypt", "none", "--context", "bound=a"], 5);
    assert!(said.contains("suspended") && said.contains("cause: key `bound` of tenant `dev`: "), "{said}");
    let said = dev.fails(&["decrypt", "none", "--context", "bound=a", "--key", "bound"], 6);
    assert!(!said.contains("cause: "), "{said}");
    let said = dev.fails(&["decrypt", "none", "--context", "bound=a", "--key", "open"], 5);
    assert!(said.contains("the file is under key `bound`"), "{said}");
    // Who is not known is not known to any.
    let operations = |said: &str| said.matches("operation: ").count();
    let mut command = dev.command(&["decrypt", "all", "--context", "bound=a"]);
    let output = command.env("HOLDFAST_TOKEN", "e30.e30.AAAA").output().unwrap();
    let said = stderr(&output);
    assert!(code(output.status) == 4 && !said.contains("cause: key") && operations(&said) <= 1, "{said}");
}

/// Of a file and several identities for its key each context is a request: no more of them than so many, and no option is named that there is not.
#[test]
fn the_plugin_asks_no_more_often_than_so_whatever_the_file_has() {
    use std::io::Write as _;
    let dev = Dev::start();
    dev.ok(&["key", "create", "bound"]);
    under(&dev, "many", &[("bound", "a"); 20]);
    let file = std::fs::read(dev.path("many")).unwrap();
    let header = String::from_utf8_lossy(&file[..file.windows(4).position(|part| part == b"--- ").unwrap()]);
    // As age says it (C2SP age-plugin, "Unwrapping with identity mode"); whatever it is told it takes note of.
    let mut said = String::new();
    for pair in ["bound=b", "bound=c"] {
        let identity = dev.ok(&["key", "identity", "bound", "--context", pair]);
        let identity = identity.lines().find(|line| line.starts_with("AGE-PLUGIN-")).unwrap();
        said.push_str(&format!("-> add-identity {identity}\n\n"));
    }
    let stanzas = header.split_once('\n').unwrap().1;
    said.push_str(&stanzas.replace("-> holdfast", "-> recipient-stanza 0 holdfast"));
    said.push_str("-> done\n\n");
    said.push_str(&"-> ok\n\n".repeat(100));
    let mut child = stock(&dev, PLUGIN, &["--age-plugin=identity-v1"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    let told = common::stdout(&child.wait_with_output().unwrap());
    let last: String = told
        .rsplit_once("-> error")
        .unwrap()
        .1
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with("->"))
        .collect();
    let last = String::from_utf8(STANDARD_NO_PAD.decode(last).unwrap()).unwrap();
    assert!(last.contains("after 32 attempts") && last.contains("an identity that names"), "{last}");
    assert!(!last.contains("--key"), "{last}");
    let asked = dev.ok(&["audit", "search", "--action", "decrypt", "--key", "bound", "--json"]);
    assert_eq!((asked.lines().count(), told.matches("-> error").count()), (32, 33), "{asked}");
}

/// A stock tool with our plugin in its path and the gateway in its environment.
fn stock(dev: &Dev, tool: &str, arguments: &[&str]) -> Command {
    let plugins = Path::new(PLUGIN).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([plugins.to_path_buf()].into_iter().chain(std::env::split_paths(&path)))
        .unwrap();
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(dev.dir.path()).stdin(Stdio::null());
    common::bare(&mut command);
    command.envs(dev.environment.iter().cloned()).env("PATH", path);
    command
}

/// A stock tool opens our files, and we open those that it makes.
fn both_ways(tool: &str) {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let content = content();
    dev.file("plain", &content);
    let run = |arguments: &[&str]| stock(&dev, tool, arguments).output().unwrap();
    for context in [&[][..], &["--context", "a=b"]] {
        dev.ok(&[&["encrypt", "plain", "--key", "k", "-o", "ours", "--force"], context].concat());
        let identity = dev.ok(&[&["key", "identity", "k"], context].concat());
        dev.file("identity", identity.as_bytes());
        let opened = run(&["-d", "-i", "identity", "-o", "opened", "ours"]);
        assert_eq!(code(opened.status), 0, "{}", stderr(&opened));
        assert!(std::fs::read(dev.path("opened")).unwrap() == content);
        std::fs::remove_file(dev.path("opened")).unwrap();

        let recipient = dev.ok(&[&["key", "recipient", "k"], context].concat());
        for armour in [&[][..], &["-a"]] {
            let made = run(&[armour, &["-r", recipient.trim(), "-o", "theirs", "plain"]].concat());
            assert_eq!(code(made.status), 0, "{}", stderr(&made));
            dev.ok(&[&["decrypt", "theirs", "-o", "opened", "--force"], context].concat());
            assert!(std::fs::read(dev.path("opened")).unwrap() == content);
            std::fs::remove_file(dev.path("theirs")).unwrap();
            std::fs::remove_file(dev.path("opened")).unwrap();
        }
    }
    // The files are bound to a context by now: an identity without it opens nothing, and says why.
    let identity = dev.ok(&["key", "identity", "k"]);
    dev.file("identity", identity.as_bytes());
    let refused = run(&["-d", "-i", "identity", "ours"]);
    assert!(
        code(refused.status) != 0 && stderr(&refused).contains("does not verify"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn with_debians_age() {
    if tool("age") {
        both_ways("age");
    }
}

#[test]
fn with_rage() {
    if tool("rage") {
        both_ways("rage");
    }
}

/// What `rage` is made of, with our plugin found in the path.
#[test]
fn with_the_age_crate() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let (recipient, identity) = (dev.ok(&["key", "recipient", "k"]), dev.ok(&["key", "identity", "k"]));
    let this = text(&std::env::current_exe().unwrap());
    let mut child = stock(&dev, &this, &["--exact", "the_age_crates_own_part", "--ignored", "--nocapture"]);
    let output =
        child.env("TEST_RECIPIENT", recipient.trim()).env("TEST_IDENTITY", identity.trim()).output().unwrap();
    assert_eq!(code(output.status), 0, "{} {}", common::stdout(&output), stderr(&output));
    assert_eq!(dev.ok(&["decrypt", "theirs"]), "from the age crate");
}

#[test]
#[ignore = "run by with_the_age_crate, which sets the path in which plugins are looked for"]
fn the_age_crates_own_part() {
    use std::io::{Read as _, Write as _};
    let (Some(recipient), Some(identity)) =
        (std::env::var_os("TEST_RECIPIENT"), std::env::var_os("TEST_IDENTITY"))
    else {
        eprintln!("SKIPPED: it is run by with_the_age_crate");
        return;
    };
    let recipient: age::plugin::Recipient = recipient.to_str().unwrap().parse().unwrap();
    let wrapper =
        age::plugin::RecipientPluginV1::new("holdfast", &[recipient], &[], age::NoCallbacks).unwrap();
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&wrapper as &dyn age::Recipient)).unwrap();
    let mut sealed = vec![];
    let mut stream = encryptor.wrap_output(&mut sealed).unwrap();
    stream.write_all(b"from the age crate").unwrap();
    stream.finish().unwrap();
    std::fs::write("theirs", &sealed).unwrap();

    let identity: age::plugin::Identity = identity.to_str().unwrap().parse().unwrap();
    let unwrapper = age::plugin::IdentityPluginV1::new("holdfast", &[identity], age::NoCallbacks).unwrap();
    let decryptor = age::Decryptor::new_buffered(&sealed[..]).unwrap();
    let mut opened = String::new();
    let mut plain = decryptor.decrypt(std::iter::once(&unwrapper as &dyn age::Identity)).unwrap();
    plain.read_to_string(&mut opened).unwrap();
    assert_eq!(opened, "from the age crate");
}
