//! Child processes: waiting, logs, ending, dying with the parent; and the HTTP client against a real server.

use std::{net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use testkit::{
    free_port, http,
    process::{Process, Stat},
};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn waits_for_a_line_and_ends_on_drop() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo ready now; exec sleep 1000";
    let mut process =
        Process::builder("script", "sh", folder.path().join("log")).args(["-c", script]).spawn().unwrap();
    assert_eq!(process.wait_for_log("ready", SOON).await.unwrap(), "ready now");
    let pid = process.pid();
    assert!(Stat::of(pid).is_some());
    drop(process);
    assert_eq!(Stat::of(pid), None);
}

#[tokio::test]
async fn the_cpu_time_of_a_process_and_of_its_ended_children_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let script = format!("({work}); echo first; {work}; echo second; exec sleep 1000");
    let mut process =
        Process::builder("script", "sh", folder.path().join("log")).args(["-c", &script]).spawn().unwrap();
    process.wait_for_log("second", SOON).await.unwrap();
    let stat = Stat::of(process.pid()).unwrap();
    assert!(stat.cpu > Duration::ZERO && stat.children_cpu > Duration::ZERO, "{stat:?}");
}

#[tokio::test]
async fn a_kept_connection_takes_one_request_after_another() {
    let peer = testkit::peer::REDIS_EXPORTER.start(&[], &[]).await.unwrap();
    let mut connection = http::Kept::open(peer.address).await.unwrap();
    for _ in 0..3 {
        let (status, body) = connection.get("/health").await.unwrap();
        assert_eq!((status.as_u16(), body.as_ref()), (200, b"ok".as_slice()));
    }
    drop(peer);
    assert!(connection.get("/health").await.is_err());
}

#[tokio::test]
async fn an_early_end_is_an_error_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo out; echo no such database >&2; exit 3";
    let mut process =
        Process::builder("script", "sh", folder.path().join("log")).args(["-c", script]).spawn().unwrap();
    let message = format!("{:#}", process.wait_for_log("ready", SOON).await.unwrap_err());
    assert!(message.starts_with("script ended with exit status: 3"), "{message}");
    assert!(message.ends_with("ends with:\nout\nno such database"), "{message}");
}

#[tokio::test]
async fn one_that_ignores_its_signal_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut process = Process::builder("stubborn", "sh", folder.path().join("log"))
        .args(["-c", script])
        .grace(Duration::from_millis(100))
        .spawn()
        .unwrap();
    process.wait_for_log("ready", SOON).await.unwrap();
    let status = process.stop().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGKILL as i32));
}

#[tokio::test]
async fn lives_on_when_the_thread_that_started_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut process = std::thread::spawn(move || {
        Process::builder("sleeper", "sh", log).args(["-c", "echo ready; exec sleep 1000"]).spawn().unwrap()
    })
    .join()
    .unwrap();
    process.wait_for_log("ready", SOON).await.unwrap();
    assert!(process.exit_status().unwrap().is_none(), "the death signal is the process's, not the thread's");
}

/// Not a test of its own: the process that [`dies_with_the_process_that_started_it`] kills.
#[tokio::test]
async fn parent() {
    let Ok(folder) = std::env::var("TESTKIT_PARENT") else { return };
    let _child =
        Process::builder("child", "sleep", format!("{folder}/child.log")).arg("1000").spawn().unwrap();
    std::fs::write(format!("{folder}/pid.partial"), _child.pid().to_string()).unwrap();
    std::fs::rename(format!("{folder}/pid.partial"), format!("{folder}/pid")).unwrap();
    tokio::time::sleep(Duration::from_secs(1000)).await;
}

#[tokio::test]
async fn dies_with_the_process_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let this_binary = std::env::current_exe().unwrap();
    let mut parent = Process::builder("parent", this_binary, folder.path().join("log"))
        .args(["--exact", "parent", "--nocapture"])
        .env("TESTKIT_PARENT", folder.path())
        .spawn()
        .unwrap();
    let pid_file = folder.path().join("pid");
    let child: u32 = parent
        .wait_until("the child's pid", SOON, || {
            let pid = std::fs::read_to_string(&pid_file).ok().and_then(|pid| pid.parse().ok());
            async move { pid }
        })
        .await
        .unwrap();
    assert!(Stat::of(child).is_some());
    parent.stop_by(Signal::SIGKILL).unwrap();
    let gone = |pid| Stat::of(pid).is_none_or(|stat| stat.state == 'Z');
    let deadline = tokio::time::Instant::now() + SOON;
    while !gone(child) {
        assert!(tokio::time::Instant::now() < deadline, "the child outlived its parent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_http_client_reads_status_headers_and_body() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.txt"), "héllo").unwrap();
    let port = free_port().unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let mut server = Process::builder("python", "python3", folder.path().join("log"))
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(folder.path())
        .arg(port.to_string())
        .spawn()
        .unwrap();
    server.wait_for_port(addr, SOON).await.unwrap();
    let page = http::get(&format!("http://{addr}/page.txt")).await.unwrap();
    assert_eq!((page.status.as_u16(), page.text.as_str()), (200, "héllo"));
    assert_eq!(page.header("content-type"), Some("text/plain"));
    assert_eq!(http::get(&format!("http://{addr}/none")).await.unwrap().status.as_u16(), 404);
    let post = http::post(&format!("http://{addr}/"), &serde_json::json!({"a": 1})).await.unwrap();
    assert_eq!(post.status.as_u16(), 501);

    server.pause().unwrap();
    let hung = http::Request::new(::http::Method::GET, format!("http://{addr}/"))
        .timeout(Duration::from_millis(100))
        .send()
        .await;
    let message = format!("{:#}", hung.unwrap_err());
    assert!(message.contains("no whole answer within 100ms"), "{message}");
    drop(server);
    let message = format!("{:#}", http::get(&format!("http://{addr}/")).await.unwrap_err());
    assert!(message.contains("connecting: Connection refused"), "{message}");
}
