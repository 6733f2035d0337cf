//! The health check of a server against the server itself, whatever it asks of its clients.

use std::path::Path;

use exporter_kit::app::healthcheck;
use exporter_kit::http::{ListenAddress, ServerConfig};

use crate::common::{Server, echo};
use crate::web_config::{Authority, TLS, folder, serve};

async fn asked(server: &Server, web_config_file: Option<&Path>) -> Result<(), String> {
    let config = ServerConfig {
        listen: vec![format!(":{}", server.address.port()).parse::<ListenAddress>().unwrap()],
        web_config_file: web_config_file.map(Path::to_owned),
        ..ServerConfig::default()
    };
    healthcheck(&config, "/-/healthy").await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn a_server_is_well_whatever_it_asks_for() {
    let authority = Authority::new();
    // bcrypt of "sesame" at its lowest cost.
    let user = format!("basic_auth_users:\n  bob: {}\n", bcrypt::hash("sesame", 4).unwrap());
    for yaml in [
        TLS.to_owned(),
        user.clone(),
        format!("{TLS}{user}"),
        format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"),
        format!(
            "{TLS}  max_version: TLS12\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        ),
    ] {
        let folder = folder(&authority, &yaml);
        let server = serve(&folder).await;
        assert_eq!(asked(&server, Some(&folder.path().join("web.yml"))).await, Ok(()), "{yaml}");
    }
    assert_eq!(asked(&echo(ServerConfig::default()).await, None).await, Ok(()));
}

#[tokio::test]
async fn trouble_is_named() {
    let server = echo(ServerConfig::default()).await;
    let folder = folder(&Authority::new(), TLS);
    let refused = asked(&server, Some(&folder.path().join("web.yml"))).await.unwrap_err();
    assert!(refused.contains("does not answer"), "{refused}");

    let web = serve(&folder).await;
    let refused = asked(&web, None).await.unwrap_err();
    assert!(refused.contains("does not answer"), "{refused}");

    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    let gone = Server { address: server.address, ..web };
    let refused = asked(&gone, None).await.unwrap_err();
    assert!(refused.contains("cannot connect"), "{refused}");
}
