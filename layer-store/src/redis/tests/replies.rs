//! One reply for each call, whatever the server sends.

use super::*;

#[tokio::test]
async fn a_script_goes_as_text_once_on_a_connection_and_when_the_server_has_forgotten_it() {
    let loaded = Arc::new(Mutex::new(false));
    let server = Server::start(with_scripts(loaded.clone())).await;
    let store = server.store();
    let names = |seen: Vec<String>| -> Vec<String> {
        seen.iter()
            .map(|c| c.split(' ').next().unwrap().into())
            .collect()
    };
    for expected in [&["EVAL"][..], &["EVALSHA"]] {
        assert_eq!(run(&store).await.unwrap().int(0), Some(1));
        assert_eq!(names(server.seen()), expected);
    }
    // `SCRIPT FLUSH`.
    *loaded.lock() = false;
    for expected in [&["EVALSHA", "EVAL"][..], &["EVALSHA"]] {
        assert_eq!(run(&store).await.unwrap().int(0), Some(1));
        assert_eq!(names(server.seen()), expected);
    }
    // Another connection may lead to another server.
    let other = server.store();
    assert_eq!(run(&other).await.unwrap().int(0), Some(1));
    assert_eq!(names(server.seen()), ["EVAL"]);
}

#[tokio::test]
async fn the_first_run_of_a_script_is_one_trip_to_a_far_server() {
    let server = Server::slow(with_scripts(Arc::default()), Duration::from_millis(60)).await;
    let store = crate::connect(&server.address).await.unwrap();
    let space = KeySpace::new("data", "s");
    let keys = [Key::new(&space, IdentityRef::Int(1))];
    let output = store.run(&CX, &PROGRAM, &keys, &[Arg::Int(7)]).await;
    assert_eq!(output.unwrap().int(0), Some(1));
}

/// The replies of a server that has a script once it has seen its text.
fn with_scripts(loaded: Arc<Mutex<bool>>) -> impl Fn(&str) -> String + Send + Sync {
    move |command| {
        let mut loaded = loaded.lock();
        match command.split(' ').next() {
            Some(_) if is_of_a_new_connection(command) => sound(command),
            Some("EVALSHA") if !*loaded => NOSCRIPT.into(),
            Some("EVAL" | "EVALSHA") => {
                *loaded = true;
                "*1\r\n:1\r\n".into()
            }
            _ => sound(command),
        }
    }
}

#[tokio::test]
async fn a_batch_is_one_trip_with_an_answer_for_each() {
    let server = Server::start(|command| match command.split(' ').next() {
        Some("EVAL") => "*1\r\n:1\r\n".into(),
        Some("GET") => "-WRONGTYPE Operation against a key\r\n".into(),
        _ => sound(command),
    })
    .await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    let keys = [1, 2].map(|i| Key::new(&space, IdentityRef::Int(i)));
    let run = |keys| Op::Run {
        program: &PROGRAM,
        keys,
        args: &[],
    };
    let ops = [
        Op::Get(&keys[0]),
        run(&keys[..1]),
        run(&keys),
        Op::GetMany(&[]),
        Op::Ping,
    ];
    let replies = store.batch(&CX, &ops).await.unwrap();
    assert_eq!(replies[0].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
    assert!(matches!(&replies[1], Ok(Reply::Output(data)) if data.int(0) == Some(1)));
    assert_eq!(replies[2].as_ref().unwrap_err().kind(), ErrorKind::CrossTag);
    assert!(matches!(&replies[3], Ok(Reply::Values(values)) if values.is_empty()));
    assert!(matches!(&replies[4], Ok(Reply::Pong)));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[1].starts_with("EVAL return"), "{seen:?}");

    // Nothing to send, nothing is sent.
    assert!(store.batch(&CX, &[]).await.unwrap().is_empty());
    let nested = [Op::Ping, Op::Batch(&ops)];
    assert_eq!(
        store.batch(&CX, &nested).await.unwrap_err().kind(),
        ErrorKind::Rejected
    );
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn dropped_calls_shift_no_reply() {
    let server = Server::start(|command| match command.strip_prefix("GET {int:") {
        Some(rest) => {
            let name = rest.split('}').next().unwrap();
            format!("${}\r\n{name}\r\n", name.len())
        }
        None => sound(command),
    })
    .await;
    let store = server.store();
    let space = KeySpace::new("data", "s");
    for i in 0..200_u64 {
        let key = Key::new(&space, IdentityRef::Int(i));
        let call = store.get(&CX, &key);
        match i % 3 {
            0 => assert_eq!(call.await.unwrap(), Some(i.to_string().into())),
            _ => drop(time::timeout(Duration::ZERO, call).await),
        }
    }
}

#[tokio::test]
async fn garbage_is_an_error_and_ends_the_connection() {
    let garbage = [
        "HTTP/1.1 400 Bad Request\r\n",
        "$-5\r\n",
        "*-9\r\n",
        "*99999999999999\r\n",
        "$99999999999999999999\r\n",
        ":1e9\r\n",
        "?\r\n",
    ];
    let left = Arc::new(Mutex::new(VecDeque::from(garbage)));
    let server = Server::start({
        let left = left.clone();
        move |command| match command.starts_with("GET") {
            true => left
                .lock()
                .pop_front()
                .map_or_else(|| sound(command), Into::into),
            false => sound(command),
        }
    })
    .await;
    let store = server.store();
    for text in garbage {
        let limit = Duration::from_millis(200);
        match time::timeout(limit, get(&store)).await {
            Ok(Err(error)) => assert_eq!(error.effect(), Effect::Unknown, "{text:?}"),
            // Read as nothing, or as the beginning of more.
            Ok(Ok(None)) | Err(_) => {}
            Ok(Ok(Some(value))) => panic!("{text:?} is read as {value:?}"),
        }
        // Whatever is left on that connection, another one is sound.
        let store = server.store();
        left.lock().clear();
        get(&store).await.unwrap();
        let at = garbage.iter().position(|other| *other == text).unwrap();
        left.lock().extend(&garbage[at + 1..]);
    }
}
