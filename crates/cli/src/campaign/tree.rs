//! A campaign over a tree of age files: the file key in the header goes to the newest version, the payload stays as it is.
//!
//! A header is sealed by a code whose key comes from the file key (C2SP age §"Header MAC"), so no header can be changed without it. The
//! gateway rewraps the file key and does not show it; then it is asked to open the new stanza. That the old header verifies with what came
//! out says that the new stanza holds this file's key, before anything is replaced.

use super::feed::Pace;
use super::keys::Known;
use super::list::List;
use super::post::Post;
use super::report::{Ending, Left};
use super::routes::Routes;
use super::stop::Stop;
use super::tally::Tally;
use super::tree_work::{Done, Shared, work};
use super::walk::{self, Met, Walk};
use super::{Check, Settings, interrupted};
use crate::agefile;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress;
use holdfast_core::context::Context;
use holdfast_core::operation::MAX_BATCH;
use holdfast_sdk::KeyName;
use holdfast_sdk::field::ContextPairs;
use indicatif::ProgressBar;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A campaign over a tree of age files.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Only files of this key, and of the target.
    pub(crate) key: Option<KeyName>,
    pub(crate) target: Option<KeyName>,
    /// What the files are bound to, beside what every file key is bound to.
    pub(crate) context: Vec<(String, String)>,
}

/// Runs it to its end, or as far as it comes.
pub(crate) fn run(app: &App, tree: Tree, settings: &Settings) -> Result<Ending, Failure> {
    let Tree { root, key, target, context } = tree;
    let tenant = app.tenant()?;
    settings.check()?;
    let begun = Instant::now();
    // A name that is not there is a wrong use; one that a file names concerns that file only.
    let mut named = BTreeMap::new();
    for name in [&key, &target].into_iter().flatten() {
        named.insert(name.clone(), Ok(app.block_on(Known::read(&tenant, name))?));
    }
    let _locked = walk::lock(&root)?;
    let stop = Stop::listen(app);
    let mut shared = Shared {
        tenant: tenant.id().clone(),
        post: Post::new(tenant.clone(), settings.patience, stop.clone()),
        routes: Routes::new(tenant, target.clone(), named),
        context: bound(&context)?,
        check: settings.check,
        files: 0,
        taken: AtomicU64::new(0),
        dry_run: settings.dry_run,
        key,
        target,
    };
    // A sample wants to know how many there are; and the report says of each key how it was before anything was looked at.
    if shared.key.is_none() || matches!(settings.check, Check::Sample(_)) {
        let (files, keys) = shared.look(Walk::new(&root, false).take_while(|_| !stop.is_ordered()));
        shared.files = files;
        for key in &keys {
            // What is wrong with one is told of its files.
            let _ = app.block_on(shared.routes.of(key))?;
        }
    }
    let begun_with: BTreeSet<KeyName> =
        app.block_on(shared.routes.known()).into_iter().map(|known| known.name).collect();
    let shared = Arc::new(shared);
    let mut campaign = Campaign {
        shared: Arc::clone(&shared),
        walk: Walk::new(&root, !settings.dry_run),
        pace: Pace::new(settings.rate),
        workers: settings.workers,
        stop,
        list: List::again(settings)?,
        tally: Tally::default(),
        bar: progress::bar(None, "{spinner} {pos} files {per_sec}"),
    };
    let outcome = app.block_on(campaign.run());
    campaign.bar.finish_and_clear();
    outcome
        .map_err(|failure| interrupted(failure, "give the same command again: what is done is left alone"))?;
    let known = app.block_on(shared.routes.known());
    let known = known.into_iter().map(|known| {
        // Files of a key that came up later may have come behind the walk, too.
        let covered = shared.target.as_ref() != Some(&known.name) && begun_with.contains(&known.name);
        (known, covered)
    });
    Ok(Ending::new(campaign.tally, known.collect(), begun.elapsed(), 0, (settings.dry_run, Left::InPlace)))
}

/// What the file keys are bound to.
fn bound(context: &[(String, String)]) -> Result<ContextPairs, Failure> {
    let pairs = agefile::bound(context).into_iter().map(|(name, value)| (name.into(), value.into()));
    Ok(ContextPairs(Context::new(pairs.collect())?))
}

struct Campaign {
    shared: Arc<Shared>,
    walk: Walk,
    pace: Pace,
    workers: usize,
    stop: Stop,
    list: Option<List>,
    tally: Tally,
    bar: ProgressBar,
}

impl Campaign {
    /// Runs until the tree ends. Fails with nothing where somebody ordered the end.
    async fn run(&mut self) -> Result<(), Option<Failure>> {
        let mut under_way: VecDeque<JoinHandle<Result<Done, Failure>>> = VecDeque::new();
        let mut is_over = false;
        loop {
            while !is_over && under_way.len() < self.workers && !self.stop.is_ordered() {
                let chunk: Vec<Met> = self.walk.by_ref().take(self.pace.chunk(MAX_BATCH)).collect();
                is_over = chunk.is_empty();
                if !is_over {
                    self.pace.wait(chunk.len(), &self.stop).await;
                    under_way.push_back(tokio::spawn(work(Arc::clone(&self.shared), chunk)));
                }
            }
            let Some(next) = under_way.pop_front() else { break };
            let done = next.await.map_err(|error| {
                Failure::new(Exit::Failure, "a part of the campaign ended by itself").because(&error)
            })??;
            self.tally.add(&done.tally);
            if let Some(list) = &mut self.list {
                list.append(&done.failures)?;
            }
            self.bar.inc(done.files);
        }
        if is_over { Ok(()) } else { Err(None) }
    }
}
