//! The variants of one address.

use cache_layer::store::SharedStore;
use http::Request;

use super::{FRESH, Handler, Site, response};

pub async fn vary_star_is_never_reused(store: SharedStore) {
    for (i, lines) in [&["*"][..], &["* "], &["a, *"], &["a", "*"], &[",*,"]]
        .into_iter()
        .enumerate()
    {
        let handler = Handler::new(move |_, n| async move {
            let mut answer = response(&[FRESH], n.to_string());
            for line in lines {
                answer.headers_mut().append("vary", line.parse().unwrap());
            }
            answer
        });
        let site = Site::new(&store, handler);
        let path = format!("/{i}");
        assert_eq!(site.get(&path).await.body, "1");
        assert_eq!(site.get(&path).await.body, "2");
    }
}

pub async fn both_lines_of_vary_are_used(store: SharedStore) {
    let handler = Handler::text(&[FRESH, ("vary", "a"), ("vary", "b")], |_, n| n.to_string());
    let site = Site::new(&store, handler);
    for (a, b, body) in [
        ("1", "1", "1"),
        ("1", "2", "2"),
        ("2", "1", "3"),
        ("1", "2", "2"),
        ("1", "1", "1"),
    ] {
        assert_eq!(site.get_with("/", &[("a", a), ("b", b)]).await.body, body);
    }
}

pub async fn several_variants_are_kept(store: SharedStore) {
    let languages = ["de", "en", "fr", ""];
    let handler = Handler::text(&[FRESH, ("vary", "Accept-Language")], |request, _| {
        request
            .headers()
            .get("accept-language")
            .map_or("none".into(), |l| l.to_str().unwrap().into())
    });
    let sites = [
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    ];
    for round in 0..3 {
        for language in languages {
            let reply = sites[round % 2]
                .get_with("/", &[("accept-language", language)])
                .await;
            assert_eq!(reply.body, language);
            assert_eq!(
                reply.is_hit(),
                round > 0,
                "{language} {}",
                reply.cache_status()
            );
        }
    }
    assert_eq!(sites[0].get("/").await.body, "none");
    assert_eq!(sites[0].calls(), 5);
    let reply = sites[0].get_with("/", &[("accept-language", "it")]).await;
    assert!(reply.cache_status().contains("fwd=vary-miss"));
}

pub async fn fields_named_later_join_the_vary_rule(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, n| async move {
        let vary = if request.headers().contains_key("b") {
            "a, b"
        } else {
            "a"
        };
        response(&[FRESH, ("vary", vary)], n.to_string())
    });
    let sites = [
        Site::new(&store, handler.clone()),
        Site::new(&store, handler),
    ];
    let first = [("a", "1")];
    let second = [("a", "1"), ("b", "2")];
    assert_eq!(sites[0].get_with("/", &[("a", "2")]).await.body, "1");
    assert_eq!(sites[0].get_with("/", &second[1..]).await.body, "2");
    // The rule has both names now, and both instances hold to it.
    assert_eq!(sites[1].get_with("/", &second).await.body, "3");
    assert_eq!(sites[0].get_with("/", &first).await.body, "4");
    for site in &sites {
        assert_eq!(site.get_with("/", &second).await.body, "3");
        assert_eq!(site.get_with("/", &first).await.body, "4");
        let other = site.get_with("/", &[("a", "1"), ("b", "3")]).await;
        assert!(!["1", "2", "3", "4"].contains(&other.body.as_str()));
    }
}

pub async fn an_encoded_response_is_not_sent_to_a_client_that_cannot_read_it(store: SharedStore) {
    let handler = Handler::new(|request: Request<String>, _| async move {
        match request.headers().get("accept-encoding") {
            Some(accepted) if accepted == "gzip" => {
                response(&[FRESH, ("content-encoding", "gzip")], "zipped")
            }
            _ => response(&[FRESH], "plain"),
        }
    });
    let site = Site::new(&store, handler);
    for _ in 0..2 {
        assert_eq!(
            site.get_with("/", &[("accept-encoding", "gzip")])
                .await
                .body,
            "zipped"
        );
        assert_eq!(
            site.get_with("/", &[("accept-encoding", "identity")])
                .await
                .body,
            "plain"
        );
        assert_eq!(site.get("/").await.body, "plain");
    }
}

pub async fn an_address_has_a_bounded_number_of_variants(store: SharedStore) {
    let handler = Handler::text(&[FRESH, ("vary", "user-agent")], |_, n| n.to_string());
    let site = Site::new(&store, handler);
    for agent in 0..2_000 {
        let text = agent.to_string();
        let reply = site.get_with("/", &[("user-agent", &text)]).await;
        let status = reply.cache_status();
        match agent {
            0 => assert_eq!(status, "cache; fwd=uri-miss; stored"),
            1..64 => assert_eq!(status, "cache; fwd=vary-miss; stored", "{agent}"),
            _ => assert_eq!(status, "cache; fwd=vary-miss; detail=variants", "{agent}"),
        }
    }
    assert_eq!(site.cache.stats().stored, 64);
    for agent in ["0", "63"] {
        let reply = site.get_with("/", &[("user-agent", agent)]).await;
        assert!(reply.is_hit(), "{agent}");
    }
    // A purge makes no room, as the entries are still there. Those of before have their places.
    site.cache.purge_path("/").await.unwrap();
    for (agent, is_stored) in [("0", true), ("2000", false)] {
        let status = site.get_with("/", &[("user-agent", agent)]).await;
        assert_eq!(status.cache_status().contains("stored"), is_stored);
    }
}
