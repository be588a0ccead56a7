//! TLS of the client and of the server.

use std::error::Error as _;
use std::future::IntoFuture;
use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::Version;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use soloist::net::TcpListener;
use soloist::{block_on, spawn};
use soloist_hyper::tls::rustls::pki_types::PrivateKeyDer;
use soloist_hyper::tls::{RootCertStore, ServerConfig, client_config, rustls};
use soloist_hyper::{Connector, Executor, serve};

use crate::support::{Raw, Site, large, listen, on_host, seconds};

/// A configuration of a server with a certificate for `localhost`, and what a client must trust.
fn certificate(protocols: &[&[u8]]) -> (ServerConfig, RootCertStore) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (config, roots)
}

/// Requests a page over TLS.
async fn get(
    server: ServerConfig,
    roots: RootCertStore,
) -> Result<(Version, Bytes), hyper_util::client::legacy::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/large",
        listener.local_addr().unwrap().port()
    );
    let _server = spawn(serve(listener, Site::default()).tls(server).into_future());
    let client: Client<_, Full<Bytes>> =
        Client::builder(Executor).build(Connector::with_tls(client_config(roots)));
    let response = client.get(url.parse().unwrap()).await?;
    let version = response.version();
    Ok((
        version,
        response.into_body().collect().await.unwrap().to_bytes(),
    ))
}

#[test]
fn the_server_chooses_the_version() {
    block_on(async {
        for (protocols, expected) in [
            (&[b"h2".as_slice(), b"http/1.1"][..], Version::HTTP_2),
            (&[b"http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
        ] {
            let (server, roots) = certificate(protocols);
            let (version, body) = get(server, roots).await.unwrap();
            assert_eq!(version, expected);
            assert!(body == large());
        }
    });
}

#[test]
fn a_certificate_that_is_not_trusted_is_an_error_of_rustls() {
    block_on(async {
        let (server, _) = certificate(&[]);
        let (_, other_roots) = certificate(&[]);
        let error = get(server, other_roots).await.unwrap_err();
        let error = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        let error = error
            .get_ref()
            .unwrap()
            .downcast_ref::<rustls::Error>()
            .unwrap();
        assert!(
            matches!(error, rustls::Error::InvalidCertificate(_)),
            "{error:?}"
        );
    });
}

#[test]
fn the_header_timeout_and_a_shutdown_include_the_handshake() {
    on_host(async |_| {
        let (config, _) = certificate(&[]);
        let server = serve(listen().await, Site::default())
            .tls(config)
            .with_graceful_shutdown(soloist::time::sleep(seconds(50)));
        let server = spawn(server.into_future());
        assert_eq!(Raw::connect().await.closed().await, 30.0);
        assert_eq!(Raw::connect().await.closed().await, 20.0);
        server.await;
    });
}
