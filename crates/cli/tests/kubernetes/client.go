// Calls a KMS v2 plugin by gRPC's own implementation in Go, which is what API servers have; as they do: the authority, waiting until
// the plugin is there, three seconds for each call. Argument: the socket. Says what each call came to, a line each.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// raw carries messages as they are: what they say is tested elsewhere.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *(v.(*[]byte)), nil }
func (raw) Unmarshal(b []byte, v interface{}) error {
	*(v.(*[]byte)) = append([]byte{}, b...)
	return nil
}
func (raw) Name() string { return "proto" }

// field is a field of bytes, of less than 16384.
func field(number byte, value []byte) []byte {
	length := len(value)
	return append([]byte{number<<3 | 2, byte(length)&0x7f | 0x80, byte(length >> 7)}, value...)
}

// fields are those of bytes that a message has.
func fields(message []byte) map[byte][]byte {
	found := map[byte][]byte{}
	for len(message) > 0 {
		number, length, shift := message[0]>>3, 0, 0
		message = message[1:]
		for more := true; more; shift += 7 {
			more = message[0] >= 0x80
			length |= int(message[0]&0x7f) << shift
			message = message[1:]
		}
		found[number], message = message[:length], message[length:]
	}
	return found
}

func join(parts ...[]byte) (all []byte) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func main() {
	channel, err := grpc.Dial("unix://"+os.Args[1], grpc.WithInsecure(), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.ForceCodec(raw{})))
	if err != nil {
		panic(err)
	}
	call := func(method string, request []byte) (map[byte][]byte, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		var reply []byte
		err := channel.Invoke(ctx, "/v2.KeyManagementService/"+method, &request, &reply)
		return fields(reply), status.Code(err).String()
	}
	said, code := call("Status", nil)
	fmt.Printf("Status %s %s %s\n", code, said[1], said[2])
	seed, uid := make([]byte, 32), field(2, []byte("uid"))
	sealed, code := call("Encrypt", join(field(1, seed), uid))
	fmt.Printf("Encrypt %s %v\n", code, string(sealed[2]) == string(said[3]))
	decrypt := join(field(1, sealed[1]), uid, field(3, sealed[2]))
	var opened int64
	var all sync.WaitGroup
	for i := 0; i < 200; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if reply, code := call("Decrypt", decrypt); code == "OK" && string(reply[1]) == string(seed) {
				atomic.AddInt64(&opened, 1)
			}
		}()
	}
	all.Wait()
	fmt.Println("Decrypt", opened)
	for _, wrong := range []struct {
		method  string
		request []byte
	}{{"Decrypt", uid}, {"Nothing", nil}, {"Encrypt", make([]byte, 1<<20)}, {"Status", nil}} {
		_, code := call(wrong.method, wrong.request)
		fmt.Println(wrong.method, code)
	}
}
