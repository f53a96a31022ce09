//! `pannier serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use serde_json::json;

use super::output::Output;
use super::trust::TrustArgs;
use super::{signals, text};
use crate::containerd::{Client, find_socket};
use crate::error::{Error, Result, Side};
use crate::progress::Stop;
use crate::serve::{Access, Containerd, Limits, Logins, Media, Options, Server, Stock, Told};

/// Lines of the access log that wait to be printed; further ones are dropped, so that nobody waits for a log.
const BACKLOG: usize = 4096;

/// Serve media, or what this node holds, as a read-only registry that containerd pulls from
///
/// Images are found under their own names: with `?ns=` as containerd asks for them, with the registry as
/// the first part of the path, or by the bare path. A tag is served when all of its image is there: with
/// upstream's digest where every layer is kept as upstream has it, and with the carried one otherwise.
/// Every byte is hashed while it is sent. See docs/mirror.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier serve /media/stick
  pannier serve /media/stick --listen 0.0.0.0:5000 --tls-cert mirror.crt --tls-key mirror.key
  pannier serve /media/a /media/b --htpasswd /etc/pannier/htpasswd
  pannier serve --from containerd")]
pub(super) struct Args {
    /// The media's directories; where two have the same name, the first counts
    #[arg(value_name = "MEDIUM", required_unless_present = "from")]
    media: Vec<PathBuf>,
    /// Serve what this node holds instead, so that it can pull from itself
    ///
    /// With containerd's hosts.toml pointing here, imagePullPolicy Always works without a network.
    #[arg(long, value_enum, value_name = "SOURCE", conflicts_with = "media")]
    from: Option<From>,
    /// containerd's socket, with --from containerd [default: kubelet's, or where distributions put it]
    #[arg(long, short = 'a', env = "CONTAINERD_ADDRESS", value_name = "SOCKET")]
    address: Option<PathBuf>,
    /// containerd's namespace; kubelet uses k8s.io
    #[arg(long, short = 'n', env = "CONTAINERD_NAMESPACE", default_value = "k8s.io")]
    namespace: String,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// A certificate with its chain (PEM), for TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who may ask: lines as `htpasswd -B` writes them [default: everybody]
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Print a line for each request, on standard output
    #[arg(long)]
    access_log: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What is served other than media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// The images of this node's containerd
    Containerd,
}

/// What clients may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Most open connections; further ones wait
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = counted)]
    max_connections: usize,
    /// Most connections from one address; further ones are closed [default: half of all]
    #[arg(long, value_name = "N", value_parser = counted)]
    max_per_address: Option<usize>,
    /// How long a request may be waited for, and an idle connection kept
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().headers.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    header_timeout: u64,
    /// How long a client may take nothing of what it is sent
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().stall.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    send_timeout: u64,
    /// How long requests that are under way may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().drain.as_secs(), value_parser = clap::value_parser!(u64).range(0..=3600))]
    drain: u64,
}

fn counted(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=100_000) => Ok(n),
        _ => Err("a number from 1 to 100000".into()),
    }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            per_address: self.max_per_address.unwrap_or(self.max_connections.div_ceil(2)),
            headers: Duration::from_secs(self.header_timeout),
            stall: Duration::from_secs(self.send_timeout),
            drain: Duration::from_secs(self.drain),
            ..Limits::default()
        }
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let limits = args.limits.limits();
    let stop = signals::stop_within(limits.drain + Duration::from_secs(5))?;
    let logins = args.htpasswd.as_deref().map(Logins::read).transpose()?;
    let stock = match args.from {
        Some(From::Containerd) => containerd(args, &stop, output)?,
        None => media(args, output)?,
    };
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    if tls.is_none() && logins.is_some() && !args.listen.ip().is_loopback() {
        output.complain("warning: passwords come in plain text; --tls-cert and --tls-key give TLS");
    }
    let options = Options { listen: args.listen, tls, logins, limits };
    let told = match args.access_log || output.json() {
        true => printing(output)?,
        false => Arc::new(|_| {}) as Told,
    };
    let server = Server::bind(stock, options, told)?;
    let address = server.address()?;
    if output.json() {
        output.document(&json!({ "event": "listening", "address": address, "scheme": scheme }))?;
    }
    output.say(format_args!("Serving on {scheme}://{address}/. SIGTERM or Ctrl-C ends it."));
    let cut = server.run(&stop)?;
    if cut > 0 {
        output.complain(format_args!("warning: {} cut off", text::count(cut, "connection")));
    }
    Ok(())
}

fn containerd(args: &Args, stop: &Stop, output: &Output) -> Result<Arc<dyn Stock>> {
    if !args.listen.ip().is_loopback() {
        output
            .complain("warning: other machines can pull everything that this node holds, private images too");
    }
    let address = find_socket(args.address.as_deref(), false, Side::Node, stop)?;
    // Not ended by a request to stop: what is under way when the server drains still reads.
    let client = Client::connect(&address, &args.namespace, Side::Node)?;
    let stock = Containerd::new(client);
    stock.check()?;
    Ok(Arc::new(stock))
}

fn media(args: &Args, output: &Output) -> Result<Arc<dyn Stock>> {
    let mut media = Vec::new();
    for path in &args.media {
        let medium = args.trust.open(path, output)?;
        for rejected in medium.rejected() {
            output.complain(format_args!("warning: {}: {}; it is ignored", rejected.name, rejected.reason));
        }
        media.push(medium);
    }
    let (media, warnings) = Media::new(media)?;
    for warning in warnings {
        output.complain(format_args!("warning: {warning}"));
    }
    Ok(Arc::new(media))
}

/// Prints the access log on a thread of its own: a terminal that stands still holds nobody up.
fn printing(output: &Output) -> Result<Told> {
    let (sender, receiver): (SyncSender<Access>, _) = sync_channel(BACKLOG);
    let output = output.clone();
    let printer = std::thread::Builder::new().name("access log".into()).spawn(move || {
        for access in receiver {
            let printed = match output.json() {
                true => output.document(&as_json(&access)),
                false => output.data(&line(&access)),
            };
            if printed.is_err() {
                return;
            }
        }
    });
    printer.map_err(|error| Error::Usage(format!("no thread could be started: {error}")))?;
    Ok(Arc::new(move |access| {
        let _ = sender.try_send(access);
    }))
}

fn as_json(access: &Access) -> serde_json::Value {
    json!({
        "event": "request",
        "peer": access.peer,
        "user": access.user,
        "method": access.method,
        "target": access.target,
        "status": access.status,
        "bytes": access.sent,
        "milliseconds": access.took.as_millis() as u64,
        "agent": access.agent,
        "cut": access.cut,
    })
}

/// A line in the common form, with the time that it took.
fn line(access: &Access) -> String {
    let mut line = Vec::new();
    let now = crate::medium::now();
    let (method, target) = (text::one_line(&access.method), text::one_line(&access.target));
    let user = access.user.as_deref().map_or("-".into(), text::one_line);
    let agent = text::one_line(&access.agent).replace('"', "'");
    let _ = write!(
        line,
        "{} {user} [{now}] \"{method} {target}\" {} {} {}ms \"{agent}\"",
        access.peer.ip(),
        access.status,
        access.sent,
        access.took.as_millis(),
    );
    if let Some(cut) = &access.cut {
        let _ = write!(line, " cut: {}", text::one_line(cut));
    }
    line.push(b'\n');
    String::from_utf8_lossy(&line).into_owned()
}
