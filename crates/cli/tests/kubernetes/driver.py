"""Calls a provider as the Secrets Store CSI driver does: stock gRPC and messages made from the .proto, nothing of Holdfast's.

Arguments: the socket, the directory with the generated code. Reads one JSON object a line, answers each with one: {} asks for the version;
{"attributes", "permission", "current"} for a volume. Contents are hexadecimal.
"""

import json
import sys

socket, generated = sys.argv[1:]
sys.path.insert(0, generated)

import csi_v1alpha1_pb2 as csi
import grpc

channel = grpc.insecure_channel("unix:" + socket, options=[("grpc.default_authority", "localhost")])


def call(method, request, answer):
    return channel.unary_unary("/v1alpha1.CSIDriverProvider/" + method, request.SerializeToString, answer.FromString)(
        request, timeout=10, wait_for_ready=True
    )


def mount(asked):
    current = [csi.ObjectVersion(id=name, version=version) for name, version in asked.get("current", {}).items()]
    request = csi.MountRequest(
        attributes=json.dumps(asked["attributes"]), secrets="{}", target_path="/var/lib/kubelet/x",
        permission=json.dumps(asked.get("permission", 420)), current_object_version=current,
    )
    reply = call("Mount", request, csi.MountResponse)
    return {
        "error": reply.error.code,
        "versions": {version.id: version.version for version in reply.object_version},
        "files": {file.path: [oct(file.mode), file.contents.hex()] for file in reply.files},
    }


for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked:
            said = mount(asked)
        else:
            reply = call("Version", csi.VersionRequest(version="v1alpha1"), csi.VersionResponse)
            said = {"version": reply.version, "name": reply.runtime_name, "runtime": reply.runtime_version}
        said["code"] = "OK"
    except grpc.RpcError as error:
        said = {"code": error.code().name, "words": error.details()}
    print(json.dumps(said), flush=True)
