"""Calls a KMS v2 plugin as an API server does: stock gRPC and messages made from the .proto, nothing of Holdfast's.

Arguments: the socket, the directory with the generated code. Reads one JSON object a line, answers each with one:
{"method", fields of its request, "timeout" in seconds, "times" at once, "raw" bytes instead of a message}. Bytes are hexadecimal.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

socket, generated = sys.argv[1:]
sys.path.insert(0, generated)

import grpc
import kms_v2_pb2 as v2

BYTES = {"plaintext", "ciphertext"}
# An API server does the same: the authority, and waiting until the plugin is there.
channel = grpc.insecure_channel("unix:" + socket, options=[("grpc.default_authority", "localhost")])


def call(asked):
    method = asked["method"]
    kind = getattr(v2, method.rsplit("/", 1)[-1] + "Request", v2.StatusRequest)
    answer = getattr(v2, method.rsplit("/", 1)[-1] + "Response", v2.StatusResponse)
    path = method if "/" in method else "/v2.KeyManagementService/" + method
    begun = time.monotonic()
    if "raw" in asked:
        message, encode = bytes.fromhex(asked["raw"]), lambda raw: raw
    else:
        message, encode = kind(), kind.SerializeToString
        for field in message.DESCRIPTOR.fields_by_name:
            if field == "annotations":
                for name, value in asked.get(field, {}).items():
                    message.annotations[name] = bytes.fromhex(value)
            elif field in asked:
                setattr(message, field, bytes.fromhex(asked[field]) if field in BYTES else asked[field])
    said = {}
    compression = grpc.Compression.Gzip if asked.get("compressed") else None
    try:
        reply = channel.unary_unary(path, encode, answer.FromString)(
            message, timeout=asked.get("timeout", 3), wait_for_ready=asked.get("wait", True), compression=compression
        )
        for field in reply.DESCRIPTOR.fields_by_name:
            value = getattr(reply, field)
            said[field] = dict(value) if field == "annotations" else value.hex() if field in BYTES else value
        said["code"] = "OK"
    except grpc.RpcError as error:
        said = {"code": error.code().name, "words": error.details()}
    said["seconds"] = time.monotonic() - begun
    return said


for line in sys.stdin:
    asked = json.loads(line)
    times = asked.get("times", 1)
    with ThreadPoolExecutor(times) as pool:
        said = list(pool.map(call, [asked] * times))
    print(json.dumps(said[0] if times == 1 else said), flush=True)
