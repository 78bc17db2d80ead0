//! Programs written with other people's client libraries: docker-py and bollard.

use std::collections::HashMap;
use std::process::Command;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, EventMessageTypeEnum, HostConfig};
use bollard::query_parameters as query;
use futures_util::StreamExt;
use hoist_tests::{Bed, engine, skip};
use tokio::io::AsyncWriteExt;

#[test]
fn docker_py_does_its_daily_work() {
    engine(|t| {
        let python = hoist_tests::test_bed().join("docker-py/bin/python3");
        if !python.exists() {
            skip!("docker-py", "no docker-py in the test bed");
        }
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/docker_py.py"));
        command.env("DOCKER_HOST", format!("unix://{}", t.engine.socket.display())).env_remove("DOCKER_TLS_VERIFY");
        t.run(command).ok().says("ok prune_version_and_info");
    });
}

fn with_bollard<F: Future<Output = Result<(), bollard::errors::Error>>>(test: impl FnOnce(Docker, String) -> F) {
    engine(|t: &mut Bed| {
        let socket = t.engine.socket.to_str().unwrap().to_string();
        let name = t.name("bollard");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            // A real dockerd is older than what bollard asks for by itself; ours is not, and is asked without negotiation.
            let version = bollard::API_DEFAULT_VERSION;
            let mut docker = Docker::connect_with_unix(&socket, 60, version).unwrap();
            if !t.engine.is_own() {
                docker = docker.negotiate_version().await.unwrap();
            }
            test(docker, name.clone()).await
        });
        t.api().delete(&format!("/containers/{name}?force=1"));
        result.unwrap_or_else(|error| panic!("bollard: {error:?}"));
    });
}

fn body(command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".into()),
        cmd: Some(command.iter().map(|word| word.to_string()).collect()),
        labels: Some(HashMap::from([("from".to_string(), "bollard".to_string())])),
        host_config: Some(HostConfig { memory: Some(64 << 20), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> Result<(), bollard::errors::Error> {
    let options = query::CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.map(drop)
}

#[test]
fn bollard_creates_starts_waits_reads_logs_and_removes() {
    with_bollard(|docker, name| async move {
        create(&docker, &name, body(&["sh", "-c", "echo out; echo err >&2; exit 0"])).await?;
        docker.start_container(&name, None::<query::StartContainerOptions>).await?;
        let mut wait = docker.wait_container(&name, None::<query::WaitContainerOptions>);
        assert_eq!(wait.next().await.unwrap()?.status_code, 0);
        let options = query::LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut logs = docker.logs(&name, Some(options));
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(output) = logs.next().await {
            match output? {
                LogOutput::StdOut { message } => out.push_str(&String::from_utf8_lossy(&message)),
                LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        let inspected = docker.inspect_container(&name, None::<query::InspectContainerOptions>).await?;
        assert_eq!(inspected.state.unwrap().exit_code, Some(0));
        assert_eq!(inspected.host_config.unwrap().memory, Some(64 << 20));
        let filters = HashMap::from([("name".to_string(), vec![name.clone()])]);
        let options = query::ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = docker.list_containers(Some(options)).await?;
        assert_eq!(listed[0].labels.as_ref().unwrap()["from"], "bollard");
        docker.remove_container(&name, None::<query::RemoveContainerOptions>).await?;
        let gone = docker.inspect_container(&name, None::<query::InspectContainerOptions>).await;
        let is_missing =
            matches!(gone, Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }));
        assert!(is_missing);
        Ok(())
    });
}

#[test]
fn bollard_attaches_execs_and_stops() {
    with_bollard(|docker, name| async move {
        let mut with_input = body(&["sh", "-c", "read line; echo got $line; sleep 1000"]);
        with_input.open_stdin = Some(true);
        with_input.attach_stdin = Some(true);
        create(&docker, &name, with_input).await?;
        let options = query::AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stream(true).build();
        let mut attached = docker.attach_container(&name, Some(options)).await?;
        docker.start_container(&name, None::<query::StartContainerOptions>).await?;
        attached.input.write_all(b"typed\n").await.unwrap();
        assert_eq!(attached.output.next().await.unwrap()?.to_string(), "got typed\n");

        let exec = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "echo inside; exit 3"]),
            attach_stdout: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(&name, exec).await?.id;
        let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec, None).await? else {
            panic!("the exec is not attached");
        };
        let mut text = String::new();
        while let Some(output) = output.next().await {
            text.push_str(&output?.to_string());
        }
        assert_eq!(text, "inside\n");
        assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(3));
        docker.top_processes(&name, None::<query::TopOptions>).await?;
        let options = query::StopContainerOptionsBuilder::new().t(0).build();
        docker.stop_container(&name, Some(options)).await?;
        docker.restart_container(&name, None::<query::RestartContainerOptions>).await?;
        let options = query::KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        docker.kill_container(&name, Some(options)).await?;
        let options = query::RemoveContainerOptionsBuilder::new().force(true).build();
        docker.remove_container(&name, Some(options)).await?;
        Ok(())
    });
}

#[test]
fn bollard_reads_images_events_version_and_info() {
    with_bollard(|docker, name| async move {
        assert_eq!(docker.ping().await?, "OK");
        let version = docker.version().await?;
        assert_eq!(version.os.as_deref(), Some("linux"));
        assert_eq!(docker.info().await?.os_type.as_deref(), Some("linux"));
        let image = docker.inspect_image("busybox").await?;
        assert!(image.id.unwrap().starts_with("sha256:"));
        let images = docker.list_images(None::<query::ListImagesOptions>).await?;
        assert!(images.iter().any(|image| image.repo_tags.contains(&"busybox:latest".to_string())));
        assert!(!docker.image_history("busybox").await?.is_empty());

        let filters = HashMap::from([("container".to_string(), vec![name.clone()])]);
        let mut events = docker.events(Some(query::EventsOptionsBuilder::new().filters(&filters).build()));
        let reader = async {
            let mut actions = Vec::new();
            while let Some(event) = events.next().await {
                let event = event?;
                if event.typ == Some(EventMessageTypeEnum::CONTAINER) {
                    let action = event.action.unwrap();
                    actions.push(action.clone());
                    if action == "destroy" {
                        break;
                    }
                }
            }
            Ok::<_, bollard::errors::Error>(actions)
        };
        let life = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            create(&docker, &name, body(&["true"])).await?;
            docker.start_container(&name, None::<query::StartContainerOptions>).await?;
            let _ = docker.wait_container(&name, None::<query::WaitContainerOptions>).next().await;
            docker.remove_container(&name, None::<query::RemoveContainerOptions>).await
        };
        let (actions, life) = tokio::join!(reader, life);
        life?;
        let actions = actions?;
        for action in ["create", "start", "die", "destroy"] {
            assert!(actions.iter().any(|seen| seen == action), "{action} in {actions:?}");
        }
        Ok(())
    });
}
