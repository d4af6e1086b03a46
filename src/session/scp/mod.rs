//! `scp -O`, which sends no SFTP but a protocol of its own over a command's input and output. What the bytes mean is
//! `sftp::scp`; here they become the same uploads, downloads and requests to the keeper that SFTP's do. [`sink`] takes
//! files, [`source`] gives them.

mod sink;
mod source;

use std::sync::Arc;

use super::channel::Shared;
use super::exec::{Terminal, path};
use super::namespace::Tree;
use super::reply::Outcome;
use crate::sftp::attrs::{Attrs, S_IFDIR};
use crate::sftp::scp::Options;
use crate::sftp::words::Word;
use crate::vpath::VirtualPath;

/// One running command.
#[derive(Clone)]
pub enum Scp {
    Sink(Arc<sink::Sink>),
    Source(Arc<source::Source>),
}

impl Scp {
    pub fn begin(shared: Arc<Shared>, terminal: Terminal, options: Options, paths: Vec<Word>) -> Self {
        match paths.as_slice() {
            [target] if options.to => Self::Sink(sink::Sink::begin(shared, terminal, options, path(&target.bytes))),
            _ => Self::Source(source::Source::begin(shared, terminal, options, paths)),
        }
    }

    /// Takes what came from the client.
    pub fn feed(&self, data: &[u8]) {
        match self {
            Self::Sink(sink) => sink.feed(data),
            Self::Source(source) => source.feed(data),
        }
    }

    /// Whether files may still come or go.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Sink(sink) => sink.is_busy(),
            Self::Source(source) => source.is_busy(),
        }
    }

    /// Whether its client has sent far more than is done.
    pub fn is_behind(&self) -> bool {
        match self {
            Self::Sink(sink) => sink.is_behind(),
            Self::Source(_) => false,
        }
    }

    /// The client sends nothing more.
    pub fn eof(&self) {
        match self {
            Self::Sink(sink) => sink.eof(),
            Self::Source(source) => source.end(),
        }
    }

    /// The channel or the connection has ended.
    pub async fn end(&self) {
        match self {
            Self::Sink(sink) => sink.end().await,
            Self::Source(source) => source.end_and_wait().await,
        }
    }
}

fn is_folder(attrs: &Attrs) -> bool {
    attrs.permissions.is_some_and(|mode| mode & S_IFDIR == S_IFDIR)
}

fn stat_is_folder(tree: &Tree, path: &VirtualPath) -> Outcome<bool> {
    tree.stat(path).map(|attrs| is_folder(&attrs))
}
