//! The ways to a server that the harness offers: TLS, a socket in the file system, RESP2 alone, users, replicas.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use layer_store::{Options, StoreExt};
use tests::{
    Certificates, HelloRefusal, RedisServer, Resp2Front, TlsFront, patient_store_at, unique,
};

#[tokio::test]
async fn tls_with_an_authority_of_its_own_leads_to_the_server() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let certificates = Certificates::new();
    let front = TlsFront::for_any_client(&server, &certificates);
    let options = Options::new().ca_pem(certificates.ca.clone());
    let store = patient_store_at(&front.url(&server), options).await;
    store
        .ping(&layer_store::Context::new("test"))
        .await
        .unwrap();

    let other = Certificates::new();
    let options = Options::new().ca_pem(other.ca);
    let error = layer_store::connect_with(&front.url(&server), options).await;
    error.unwrap_err();
}

/// A server of TLS 1.3 refuses a client after its own side of the handshake, so the refusal comes where a reply is read.
#[test]
fn a_client_without_a_certificate_is_refused() {
    use std::sync::Arc;
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };
    let server = RedisServer::start();
    let certificates = Certificates::new();
    let stranger = Certificates::new();
    let front = TlsFront::before(&server, &certificates);
    for (client, accepted) in [
        (Some(&certificates.client), true),
        (Some(&stranger.client), false),
        (None, false),
    ] {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(certificates.ca.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(pem) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(front.address()).unwrap());
        let mut reply = [0; 7];
        let talk = stream
            .write_all(b"PING\r\n")
            .and_then(|()| stream.read_exact(&mut reply));
        assert_eq!(talk.is_ok(), accepted, "{talk:?}");
        assert_eq!(&reply == b"+PONG\r\n", accepted);
    }
}

#[test]
fn a_server_has_a_socket_in_the_file_system() {
    let server = RedisServer::start();
    let path = server.unix_url().replace("unix://", "");
    let mut stream = UnixStream::connect(path).unwrap();
    assert_eq!(asked(&mut stream, "PING\r\n"), "+PONG\r\n");
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    assert!(server.unix_url().starts_with("redis+unix://:secret@/"));
}

#[test]
fn hello_is_refused_in_its_turn_and_everything_else_passes() {
    let server = RedisServer::start();
    for refusal in HelloRefusal::ALL {
        let front = Resp2Front::before(&server, refusal);
        let port = front.url(&server).rsplit(':').next().unwrap().parse();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.unwrap())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let value = unique();
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n",
            value.len()
        );
        let get = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let hello = "*2\r\n$5\r\nhello\r\n$1\r\n3\r\n";
        stream
            .write_all(format!("{set}{hello}{get}").as_bytes())
            .unwrap();
        let got = format!("${}\r\n{value}\r\n", value.len());
        let expected = match refusal {
            HelloRefusal::UnknownCommand => {
                "-ERR unknown command 'HELLO', with args beginning with: '3' \r\n"
            }
            HelloRefusal::Unsupported => "-ERR unsupported command 'hello'\r\n",
            HelloRefusal::NoAuth => "-NOAUTH Authentication required.\r\n",
            HelloRefusal::Close => {
                let mut all = String::new();
                stream.read_to_string(&mut all).unwrap();
                assert_eq!(all, "+OK\r\n");
                continue;
            }
        };
        let expected = format!("+OK\r\n{expected}{got}");
        let mut all = vec![0; expected.len()];
        stream.read_exact(&mut all).unwrap();
        assert_eq!(String::from_utf8_lossy(&all), expected, "{refusal:?}");
    }
}

#[test]
fn a_user_is_known_by_any_name_and_password() {
    let server = RedisServer::start();
    let password = "p@ss:w/rd#%";
    let rule = format!(">{password}");
    let () = server.command(&["ACL", "SETUSER", "ada", "on", &rule, "~*", "+ping"]);
    let client = redis::Client::open(server.url_as("ada", password)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let pong: String = redis::cmd("PING").query(&mut connection).unwrap();
    assert_eq!(pong, "PONG");
    let get: Result<Option<String>, _> = redis::cmd("GET").arg("k").query(&mut connection);
    assert_eq!(get.unwrap_err().code(), Some("NOPERM"));
}

#[test]
fn a_replica_follows_its_primary() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let () = primary.command(&["SET", "k", "v"]);
    let _: u32 = primary.command(&["WAIT", "1", "5000"]);
    assert_eq!(replica.command::<String>(&["GET", "k"]), "v");
}

#[test]
fn commands_are_renamed_away() {
    let server = RedisServer::start_with(&["--rename-command", "EVAL", ""]);
    let mut raw = server.raw();
    let eval: Result<(), _> = redis::cmd("EVAL").arg("return 1").arg(0).query(&mut raw);
    assert!(eval.unwrap_err().to_string().contains("unknown command"));
}

fn asked(stream: &mut (impl Read + Write), words: &str) -> String {
    let mut reply = [0; 64];
    let asked = stream.write_all(words.as_bytes());
    let read = asked.and_then(|()| stream.read(&mut reply));
    let read = read.expect("a server that runs answers");
    String::from_utf8_lossy(&reply[..read]).into_owned()
}
