//! What a coordinator wants to know before it moves a Pod.

use transship_proto::v1::{
    Capture, DescribeResponse, PodIdentity, PreflightRequest, PreflightResponse, Refusal,
};
use transship_proto::{Fault, Reason};

use crate::facts::{self, Handler, WRAPPER};
use crate::node::Node;
use crate::plan::Owner;
use crate::source;

/// What this node can do, and what keeps Pods from being moved from or to it.
pub async fn describe(node: &Node) -> DescribeResponse {
    let mut problems = Vec::new();
    let looked = async {
        let handler = Handler::find(&node.cri, "").await?;
        if !handler.wrapped {
            let what = format!(
                "{} runs containers under {}; make {WRAPPER} the node's default runtime, and restart its Pods once",
                node.name(),
                handler.program.display()
            );
            problems.push(refusal(Fault::new(Reason::NoSourceFence, what)));
        }
        facts::gather(node.name(), &node.cri, &handler).await
    };
    let facts = looked.await;
    let captures = match &facts {
        Ok(facts) if facts.runtime.starts_with("runc ") => vec![Capture::Direct.into(), Capture::Cri.into()],
        Ok(facts) => {
            let what = format!(
                "{} runs containers by {}; this version moves what runc runs",
                facts.node, facts.runtime
            );
            problems.push(refusal(Fault::new(Reason::NoCapturePath, what)));
            Vec::new()
        }
        Err(fault) => {
            problems.push(refusal(fault.clone()));
            Vec::new()
        }
    };
    DescribeResponse { facts: facts.ok(), captures, problems }
}

/// Goes through every check of both nodes.
pub async fn preflight(node: &Node, request: PreflightRequest) -> PreflightResponse {
    let (asked, pod) = (request.capture(), request.pod.unwrap_or_default());
    let (capture, why) = match asked {
        Capture::Cri => (Capture::Cri, "it was asked for"),
        Capture::Direct => (Capture::Direct, "it was asked for"),
        Capture::Auto => (
            Capture::Direct,
            "the agent is on the node: images go straight into memory, and are sent while they are written",
        ),
    };
    let told = PreflightResponse {
        capture: capture.into(),
        capture_why: why.into(),
        ..PreflightResponse::default()
    };
    match looked(node, &pod, &request.target).await {
        Ok(cleared) => PreflightResponse {
            warnings: cleared.warnings,
            memory: cleared.memory,
            source: Some(cleared.own_facts),
            target: Some(cleared.target_facts),
            ..told
        },
        Err(fault) => PreflightResponse { refusals: vec![refusal(fault)], ..told },
    }
}

async fn looked(node: &Node, pod: &PodIdentity, target: &str) -> Result<source::Cleared, Fault> {
    let container = super::running_container(&node.cri, pod).await?;
    source::preflight(node, &container, target, Owner::Kubelet).await
}

fn refusal(fault: Fault) -> Refusal {
    Refusal { reason: fault.reason.to_string(), message: fault.message }
}
