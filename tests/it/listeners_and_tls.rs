//! What clients may speak: HTTP/1.1 and HTTP/2, in the clear and under TLS.

use crate::support::certs::Cert;
use crate::support::program::curl;
use crate::support::{Origin, Proxy, one_route, program};

fn tls_proxy(certs: &[&Cert], further: &str, origin: &Origin) -> Proxy {
    let certs: Vec<String> = certs.iter().map(|cert| cert.toml()).collect();
    Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] {further} }}\n\
         [[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{}]\n",
        certs.join(", "),
        origin.toml()
    ))
}

/// curl by name, with the name at our address.
fn curl_tls(proxy: &Proxy, cert: &Cert, version: &str) -> String {
    let port = proxy.public().port();
    let resolve = format!("site.test:{port}:127.0.0.1");
    let url = format!("https://site.test:{port}/");
    let cacert = cert.pem_path.to_str().unwrap();
    curl(&[version, "--resolve", &resolve, "--cacert", cacert, "-w", " over %{http_version}", &url])
}

#[test]
fn http_1_1_is_spoken_in_the_clear() {
    let origin = Origin::saying("hello");
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let first = client.get("/one");
    let second = client.get("/two");

    assert_eq!((first.status(), first.text()), (200, "hello".to_owned()));
    assert_eq!((second.status(), second.text()), (200, "hello".to_owned()));
}

#[test]
fn http_2_is_spoken_in_the_clear_by_its_preface() {
    let Some(_) = program("curl") else { return };
    let origin = Origin::saying("hello");
    let proxy = Proxy::before(&origin);

    let url = format!("http://{}/", proxy.public());
    let said = curl(&["--http2-prior-knowledge", "-w", " over %{http_version}", &url]);

    assert_eq!(said, "hello over 2");
}

#[test]
fn http_2_is_chosen_by_alpn_and_http_1_1_where_the_client_wants_it() {
    let Some(_) = program("curl") else { return };
    let origin = Origin::saying("hello");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy(&[&cert], "", &origin);

    assert_eq!(curl_tls(&proxy, &cert, "--http2"), "hello over 2");
    assert_eq!(curl_tls(&proxy, &cert, "--http1.1"), "hello over 1.1");
}

#[test]
fn many_http_2_streams_share_a_connection() {
    // Under TLS: curl 7.88 cannot reuse a connection whose HTTP/2 it knew before.
    let Some(_) = program("curl") else { return };
    let origin = Origin::start(|request| crate::support::ok(request.target()));
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy(&[&cert], "", &origin);

    let port = proxy.public().port();
    let resolve = format!("site.test:{port}:127.0.0.1");
    let url = format!("https://site.test:{port}/[1-50]");
    let cacert = cert.pem_path.to_str().unwrap();
    let written = "|%{http_version} %{num_connects}\n";
    let said = curl(&[
        "--http2",
        "--parallel",
        "--resolve",
        &resolve,
        "--cacert",
        cacert,
        "-o",
        "-",
        "-w",
        written,
        &url,
    ]);

    assert_eq!(origin.count(), 50);
    assert_eq!(said.matches("|2 ").count(), 50, "{said}");
    assert!(said.matches("|2 0").count() >= 45, "{said}");
    assert!(said.contains("/50"), "{said}");
}

#[test]
fn each_name_is_answered_with_its_own_certificate() {
    let origin = Origin::saying("hello");
    let (one, two) = (Cert::of(&["one.test"]), Cert::of(&["two.test", "*.two.test"]));
    let proxy = tls_proxy(&[&one, &two], "", &origin);

    for (cert, name) in [(&one, "one.test"), (&two, "two.test"), (&two, "deep.two.test")] {
        let (answer, _) = cert.trust().get(proxy.public(), name).unwrap();
        assert_eq!(answer.status(), 200, "{name}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_first_certificate() {
    let origin = Origin::saying("hello");
    let (one, two) = (Cert::of(&["one.test"]), Cert::of(&["two.test"]));
    let proxy = tls_proxy(&[&one, &two], "", &origin);

    let refusal = one.trust().get(proxy.public(), "three.test").unwrap_err().to_string();

    // The client trusts this certificate, and says that it is for another name.
    assert!(refusal.contains("not valid for name"), "{refusal}");
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    let origin = Origin::saying("hello");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy(&[&cert], "", &origin);

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (answer, _) = cert.trust_with(&[version]).get(proxy.public(), "site.test").unwrap();
        assert_eq!(answer.status(), 200, "{version:?}");
    }
}

#[test]
fn tls_1_2_is_refused_where_the_least_is_1_3() {
    let origin = Origin::saying("hello");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy(&[&cert], ", min-version = \"1.3\"", &origin);

    let old = cert.trust_with(&[&rustls::version::TLS12]).get(proxy.public(), "site.test");
    let new = cert.trust().get(proxy.public(), "site.test");

    assert!(old.is_err());
    assert_eq!(new.unwrap().0.status(), 200);
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let origin = Origin::saying("hello");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy(&[&cert], "", &origin);

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let trust = cert.trust_with(&[version]);
        let kinds: Vec<_> =
            (0..4).map(|_| trust.get(proxy.public(), "site.test").unwrap().1.unwrap()).collect();

        assert_eq!(kinds[0], rustls::HandshakeKind::Full, "{version:?}");
        // Whichever worker takes the later ones.
        assert!(
            kinds[1..].iter().all(|kind| *kind == rustls::HandshakeKind::Resumed),
            "{version:?}: {kinds:?}"
        );
    }
}

#[test]
fn two_listeners_are_two_doors() {
    let (origin, other) = (Origin::saying("public"), Origin::saying("private"));
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"private\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nlistener = \"public\"\nupstream = \"a\"\n[[route]]\nlistener = \"private\"\nupstream = \"b\"\n\
         [upstream.a]\nservers = [{}]\n[upstream.b]\nservers = [{}]\n",
        origin.toml(),
        other.toml()
    ));

    assert_eq!(crate::support::get(proxy.address("public"), "/").text(), "public");
    assert_eq!(crate::support::get(proxy.address("private"), "/").text(), "private");
}

#[test]
fn a_server_is_spoken_to_under_tls_and_verified() {
    let cert = Cert::of(&["origin.test"]);
    let ca = cert.pem_path.clone();
    // The file must outlive the certificate's own directory, which moves into the origin.
    let trusted = format!("tls = {{ ca = {ca:?}, server-name = \"origin.test\" }}");
    let origin = Origin::start_tls(cert, |_| crate::support::ok("under tls"));
    let servers = format!("servers = [\"https://{}\"]", origin.address());

    let verified =
        Proxy::start(&format!("[[route]]\nupstream = \"app\"\n[upstream.app]\n{servers}\n{trusted}"));
    let unverified = Proxy::start(&format!("[[route]]\nupstream = \"app\"\n[upstream.app]\n{servers}"));
    let insecure = "tls = { insecure = true }";
    let insecure =
        Proxy::start(&format!("[[route]]\nupstream = \"app\"\n[upstream.app]\n{servers}\n{insecure}"));

    assert_eq!(verified.get("/").text(), "under tls");
    assert_eq!(unverified.get("/").status(), 502);
    assert_eq!(insecure.get("/").text(), "under tls");
}

#[test]
fn connections_are_spread_evenly_over_the_workers() {
    let origin = Origin::saying("x");
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 3\n{}", one_route("", "", &[&origin])));
    let spread = || {
        let status = proxy.status();
        let workers = status["workers"].as_array().unwrap();
        workers.iter().map(|worker| worker["connections"].as_u64().unwrap()).collect::<Vec<_>>()
    };

    // The kernel alone hashes them: over three workers, forty in a row would hardly stay this even.
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = proxy.client();
        assert_eq!(client.get("/").text(), "x");
        clients.push(client);
        let spread = spread();
        let (most, least) = (spread.iter().max().unwrap(), spread.iter().min().unwrap());
        assert!(most - least <= 3, "{spread:?}");
    }

    assert_eq!(spread().iter().sum::<u64>(), 40);
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "x", "a connection that was handed over goes on");
    }
}
