// SPDX-License-Identifier: BSD-2-Clause

// Package fae is a client of a fae node on vmihailenco/msgpack: one connection, any number of calls under way.
package fae

import (
	"fmt"
	"math/rand"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Error is a call that failed: Code is "TIMEOUT", "BAD_ARGS", ...
type Error struct {
	Code      string `msgpack:"code"`
	Message   string `msgpack:"message"`
	Retryable bool   `msgpack:"retryable"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

type answer struct {
	_msgpack struct{} `msgpack:",as_array"`
	Kind     int
	ID       uint32
	Error    *Error
	Result   any
}

// Client may be used by many goroutines.
type Client struct {
	Context map[string]any // goes with every call; not to be changed while calls are made
	Timeout time.Duration
	conn    net.Conn
	mu      sync.Mutex // of what follows, and of writing
	lastID  uint32
	waiting map[uint32]chan answer // nil once the connection is lost
}

// Dial connects to "unix:/path" or "tcp://host:port".
func Dial(address, reason string, timeout time.Duration) (*Client, error) {
	network, target, _ := strings.Cut(address, ":")
	conn, err := net.DialTimeout(network, strings.TrimPrefix(target, "//"), timeout)
	if err != nil {
		return nil, err
	}
	context := map[string]any{"rid": rand.Int63(), "reason": reason, "deadline_ms": timeout.Milliseconds()}
	c := &Client{Context: context, Timeout: timeout, conn: conn, waiting: map[uint32]chan answer{}}
	go c.read()
	return c, c.write([]any{2, "sys.hello", []any{map[string]string{"error": "map"}}})
}

// Close ends the connection; calls under way fail with WORKER_LOST.
func (c *Client) Close() error { return c.conn.Close() }

// Call returns the result: nil, bool, an integer, float64, string, []byte, []any or map[string]any. Failures are *Error.
func (c *Client) Call(method string, params ...any) (any, error) {
	back := make(chan answer, 1)
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	if c.waiting != nil {
		c.waiting[id] = back
	} else {
		close(back)
	}
	c.mu.Unlock()
	if err := c.write([]any{0, id, method, append([]any{}, params...), c.Context}); err != nil {
		c.conn.Close()
	}
	select {
	case got, ok := <-back: // answers come in any order
		if !ok {
			return nil, &Error{"WORKER_LOST", "the connection was lost before the answer came", true}
		}
		if got.Error != nil {
			return nil, got.Error
		}
		return got.Result, nil
	case <-time.After(c.Timeout + 50*time.Millisecond): // the node should have said so itself
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		return nil, &Error{"TIMEOUT", fmt.Sprintf("no answer from %s in time", method), true}
	}
}

func (c *Client) write(message []any) error {
	bytes, err := msgpack.Marshal(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		_, err = c.conn.Write(bytes)
	}
	return err
}
