//! Telling the service manager that the service is ready (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says so, if there is a manager that wants to know.
pub(super) fn ready() {
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        // Whoever set the variable and does not listen will find out by itself.
        let _ = send(&address, b"READY=1");
    }
}

fn send(address: &std::ffi::OsStr, message: &[u8]) -> std::io::Result<()> {
    let bytes = address.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("pannier-test-{}", std::process::id());
        let named = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let unnamed = UnixDatagram::bind_addr(&address).unwrap();
        send(path.as_os_str(), b"READY=1").unwrap();
        send(format!("@{name}").as_ref(), b"READY=1").unwrap();
        for socket in [named, unnamed] {
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(send(directory.path().join("none").as_os_str(), b"x").is_err());
    }
}
