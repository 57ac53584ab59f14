//! The first commands on a connection.

use super::*;

#[tokio::test]
async fn a_server_without_hello_is_spoken_to_in_resp2() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("HELLO") => NO_HELLO.into(),
        Some("SET") => CLOSE.into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 2);

    // It is asked once, and not again by the next connection.
    let space = KeySpace::new("data", "s");
    let key = Key::new(&space, IdentityRef::Int(1));
    let minute = crate::Ttl::from_millis(60_000).unwrap();
    let _ = store.put(&CX, &key, &"1".into(), minute).await;
    get(&store).await.unwrap();
    assert_eq!(server.connections(), 3);
    let seen = server.seen.lock();
    assert_eq!(seen.iter().filter(|c| c.starts_with("HELLO")).count(), 1);
}

#[tokio::test]
async fn it_says_who_it_is_and_takes_its_database() {
    let server = Server::start(sound).await;
    let url = server.address.replace("redis://", "redis://ada:s%40fe@") + "/3";
    get(&RedisStore::new(&url).unwrap()).await.unwrap();
    let seen = server.seen.lock();
    assert_eq!(seen[..2], ["HELLO 3 AUTH ada s@fe", "SELECT 3"]);
}

#[tokio::test]
async fn a_server_that_tells_no_run_id_is_used_all_the_same() {
    let server = Server::start(|command| match command.starts_with("INFO") {
        true => "-NOPERM this user has no permissions to run the 'info' command\r\n".into(),
        false => sound(command),
    })
    .await;
    let store = server.store();
    get(&store).await.unwrap();
    assert_eq!(store.info().incarnation, None);
}

/// A server of RESP3 sends `INFO` as a verbatim string.
#[tokio::test]
async fn the_run_id_is_read_from_either_kind_of_string() {
    let mut incarnations = Vec::new();
    for info in ["=15\r\ntxt:run_id:abcd\r\n", INFO, "$11\r\nrun_id:abce\r\n"] {
        let server = Server::start(move |command| match command.starts_with("INFO") {
            true => info.into(),
            false => sound(command),
        })
        .await;
        let store = server.store();
        assert_eq!(store.info().incarnation, None);
        get(&store).await.unwrap();
        incarnations.push(store.info().incarnation.unwrap());
    }
    assert_eq!(incarnations[0], incarnations[1]);
    assert_ne!(incarnations[1], incarnations[2]);
}
