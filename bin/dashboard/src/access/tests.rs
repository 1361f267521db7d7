use super::*;

const TOKEN: &str = "the token that opens everything";
const READ_TOKEN: &str = "the token of the wall";
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn access(listen: &str, tokens: [&str; 2]) -> Access {
    let [token, read_token] = tokens.map(|token| token.parse().expect("a good token"));
    let listen = listen.parse().expect("an address");
    Access::new(&config::Dashboard { listen, token, read_token, ..config::Dashboard::default() })
}

fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("printable"))])
}

#[test]
fn a_token_opens_what_the_address_does_not() {
    for (listen, tokens, without, with_read_token) in [
        ("127.0.0.1:0", ["", ""], Scope::Everything, None),
        ("127.0.0.1:0", [TOKEN, READ_TOKEN], Scope::Numbers, Some(Scope::Numbers)),
        ("[::1]:0", [TOKEN, ""], Scope::Numbers, None),
        ("0.0.0.0:0", [TOKEN, READ_TOKEN], Scope::Nothing, Some(Scope::Numbers)),
    ] {
        let access = access(listen, tokens);
        let scope = |headers: &HeaderMap| access.scope(PEER, headers, 0);
        let bearer = |token: &str| headers(AUTHORIZATION, &format!("Bearer {token}"));
        assert_eq!(scope(&HeaderMap::new()), Ok(without));
        assert_eq!(scope(&bearer(TOKEN)), Ok(Scope::Everything));
        if let Some(expected) = with_read_token {
            assert_eq!(scope(&bearer(READ_TOKEN)), Ok(expected));
        }
        if !tokens[0].is_empty() {
            assert_eq!(scope(&bearer("another")), Err(Denied::WrongToken));
        }
    }
}

#[test]
fn a_session_ends_with_its_time_and_with_its_token() {
    let first = access("0.0.0.0:0", [TOKEN, READ_TOKEN]);
    for scope in [Scope::Everything, Scope::Numbers] {
        let cookie = first.session_cookie(scope, 1_000).expect("a session");
        assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
        let session = cookie.split(';').next().expect("a pair");
        let session = headers(COOKIE, &format!("other=1; {session}"));
        let seconds = first.session.as_secs();
        assert_eq!(first.scope(PEER, &session, 1_000 + seconds - 1), Ok(scope));
        assert_eq!(first.scope(PEER, &session, 1_000 + seconds), Ok(Scope::Nothing));
        let later = access("0.0.0.0:0", ["another token for everything", "another token of the wall"]);
        assert_eq!(later.scope(PEER, &session, 1_000), Ok(Scope::Nothing));
    }
    let over_tls = Access { is_secure: true, ..access("0.0.0.0:0", [TOKEN, ""]) };
    assert!(over_tls.session_cookie(Scope::Everything, 0).is_some_and(|cookie| cookie.ends_with("; Secure")));
    // Its end cannot be moved.
    let cookie = first.session_cookie(Scope::Everything, 1_000).expect("a session");
    let (_, sealed) = cookie.split_once('.').expect("a seal");
    let forged = headers(COOKIE, &format!("footfall=99999999999.{}", sealed.split(';').next().expect("a seal")));
    assert_eq!(first.scope(PEER, &forged, 1_000), Ok(Scope::Nothing));
}

#[test]
fn guesses_are_limited_whatever_way_they_come() {
    let access = access("0.0.0.0:0", [TOKEN, ""]);
    let cookie = access.session_cookie(Scope::Everything, 1_000).expect("a session");
    let right = cookie.split(';').next().expect("a pair").to_owned();
    let ask =
        |peer: &str, cookies: &str| access.scope(peer.parse().expect("an address"), &headers(COOKIE, cookies), 1_000);
    let wrong = |number: u32| format!("footfall=9999999999.{number:064x}");
    // At most two are looked at, whatever comes behind them.
    let many: Vec<String> = (0..360).map(wrong).collect();
    assert_eq!(ask("192.0.2.1", &many.join("; ")), Ok(Scope::Nothing));
    assert_eq!(access.sessions.len(), 2);
    assert_eq!(ask("192.0.2.2", &format!("{}; {}; {right}", wrong(0), wrong(1))), Ok(Scope::Nothing));
    assert_eq!(ask("192.0.2.2", &format!("{}; {right}", wrong(0))), Ok(Scope::Everything));
    // A browser that goes on sending the same old one is not shut out; whoever tries another each time is, for tokens
    // too.
    for _ in 0..100 {
        assert_eq!(ask("192.0.2.2", &wrong(7)), Ok(Scope::Nothing));
    }
    assert_eq!(access.scope_of("192.0.2.2".parse().expect("an address"), TOKEN), Ok(Scope::Everything));
    for number in 100..120 {
        assert_eq!(ask("192.0.2.2", &wrong(number)), Ok(Scope::Nothing));
    }
    assert_eq!(access.scope_of("192.0.2.2".parse().expect("an address"), TOKEN), Err(Denied::TooOften));
    // Who is logged in stays so, even from the same address.
    assert_eq!(ask("192.0.2.2", &right), Ok(Scope::Everything));
    // A network of its own does not give more than a few.
    for number in 0..60 {
        let _ = access.scope_of(format!("2001:db8:1:{number:x}::1").parse().expect("an address"), "wrong");
    }
    let of = |peer: &str| access.scope_of(peer.parse().expect("an address"), TOKEN);
    assert_eq!((of("2001:db8:1:ffff::1"), of("2001:db8:2::1")), (Err(Denied::TooOften), Ok(Scope::Everything)));
}

#[test]
fn only_our_names_reach_what_needs_no_token() {
    let listen = |listen: &str, tokens| {
        let mut access = access(listen, tokens);
        access.name = Some("Numbers.example".into());
        access
    };
    let open = listen("127.0.0.1:0", ["", ""]);
    let with_token = listen("[::1]:0", [TOKEN, ""]);
    for ours in [
        "127.0.0.1",
        "127.0.0.1:8001",
        "[::1]:8001",
        "192.0.2.1",
        "localhost",
        "LOCALHOST:8001",
        "localhost.",
        "a.localhost:1",
        "numbers.example",
        "numbers.example:443",
    ] {
        let headers = headers(HOST, ours);
        assert!(open.knows_host(&headers) && with_token.knows_host(&headers), "{ours}");
    }
    assert!(open.knows_host(&HeaderMap::new()), "whoever sends none is no browser");
    let everywhere = listen("0.0.0.0:0", [TOKEN, ""]);
    for other in [
        "evil.example",
        "evil.example:8001",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "numbers.example.evil.example",
        "127.0.0.1@evil.example",
        "",
        ":8001",
        "a b",
    ] {
        let headers = headers(HOST, other);
        assert!(!open.knows_host(&headers) && !with_token.knows_host(&headers), "{other}");
        assert!(everywhere.knows_host(&headers), "the token keeps it");
    }
    let mut twice = headers(HOST, "localhost");
    twice.append(HOST, HeaderValue::from_static("evil.example"));
    assert!(!open.knows_host(&twice));
}

#[test]
fn a_page_of_another_site_is_known_by_its_origin() {
    let access = access("127.0.0.1:0", ["", ""]);
    for (host, origin, is_ours) in [
        ("numbers.example", "http://numbers.example", true),
        ("numbers.example:80", "http://numbers.example", true),
        ("numbers.example:443", "https://numbers.example", true),
        ("numbers.example:8080", "http://numbers.example:8080", true),
        ("[::1]:8001", "http://[::1]:8001", true),
        ("numbers.example:443", "http://numbers.example", false),
        ("numbers.example:8080", "http://numbers.example", false),
        ("numbers.example", "http://evil.example", false),
        ("numbers.example", "null", false),
    ] {
        let mut headers = headers(HOST, host);
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        assert_eq!(access.is_same_origin(&headers), is_ours, "{host} {origin}");
    }
    for (site, is_ours) in [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)] {
        assert_eq!(access.is_same_origin(&headers("sec-fetch-site".parse().expect("a name"), site)), is_ours);
    }
    assert!(access.is_same_origin(&HeaderMap::new()), "no browser");
}

#[test]
fn whoever_guesses_is_not_told_when_it_was_right() {
    let access = access("0.0.0.0:0", [TOKEN, ""]);
    for _ in 0..10 {
        assert_eq!(access.scope_of(PEER, "guess"), Err(Denied::WrongToken));
    }
    assert_eq!(access.scope_of(PEER, TOKEN), Err(Denied::TooOften));
    let other = "192.0.2.2".parse().expect("an address");
    assert_eq!(access.scope_of(other, TOKEN), Ok(Scope::Everything));
}
