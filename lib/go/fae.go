// SPDX-License-Identifier: BSD-2-Clause

// Package fae is a client of a fae node on vmihailenco/msgpack: one connection, any number of calls under way.
package fae

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Error is a call that failed: Code is "TIMEOUT", "BAD_ARGS", ...
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Client may be used by many goroutines.
type Client struct {
	Context map[string]any // goes with every call; not to be changed while calls are made
	timeout time.Duration
	Conn    net.Conn // close it when done
	lastID  atomic.Uint32
	waiting sync.Map      // msgid as text -> chan []any
	lost    chan struct{} // closed when the connection is
}

// Dial connects to "unix:/path" or "tcp://host:port".
func Dial(address, reason string, timeout time.Duration) (*Client, error) {
	network, target, _ := strings.Cut(address, ":")
	conn, err := net.DialTimeout(network, strings.TrimPrefix(target, "//"), timeout)
	if err != nil {
		return nil, err
	}
	c := &Client{timeout: timeout, Conn: conn, lost: make(chan struct{})}
	c.Context = map[string]any{"rid": time.Now().UnixNano(), "reason": reason, "deadline_ms": timeout.Milliseconds()}
	go c.read()
	return c, c.write(2, "sys.hello", []any{map[string]string{"error": "array"}})
}

// Call returns the result: nil, bool, int64, uint64, float64, string, []byte, []any or map[string]any.
func (c *Client) Call(method string, params ...any) (any, error) {
	id, back := c.lastID.Add(1), make(chan []any, 1)
	c.waiting.Store(fmt.Sprint(id), back)
	defer c.waiting.Delete(fmt.Sprint(id))
	if err := c.write(0, id, method, append([]any{}, params...), c.Context); err != nil {
		return nil, err
	}
	select {
	case answer := <-back:
		if failed, ok := answer[2].([]any); ok && len(failed) == 2 {
			return nil, &Error{fmt.Sprint(failed[0]), fmt.Sprint(failed[1])}
		}
		return answer[3], nil
	case <-c.lost:
		return nil, &Error{"WORKER_LOST", "the connection was lost before the answer came"}
	case <-time.After(c.timeout + 50*time.Millisecond): // the node should have said so itself
		return nil, &Error{"TIMEOUT", "no answer in time"}
	}
}

func (c *Client) write(message ...any) error {
	bytes, err := msgpack.Marshal(message)
	if err == nil {
		_, err = c.Conn.Write(bytes) // of many goroutines, one after the other
	}
	return err
}

func (c *Client) read() {
	in := msgpack.NewDecoder(c.Conn)
	in.UseLooseInterfaceDecoding(true)
	for answer, err := in.DecodeSlice(); err == nil && len(answer) > 1; answer, err = in.DecodeSlice() {
		if back, ok := c.waiting.LoadAndDelete(fmt.Sprint(answer[1])); ok { // in any order
			back.(chan []any) <- answer
		}
	}
	close(c.lost)
	c.Conn.Close()
}
