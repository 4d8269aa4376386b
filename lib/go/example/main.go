// SPDX-License-Identifier: BSD-2-Clause

// Reads lines of METHOD and JSON of its params, calls them all at once, prints the answers in their order:
//
//	printf '%s\n' 'hello.greet ["Ada"]' 'sys.time' | go run ./example tcp://127.0.0.1:9001
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"fae"
)

func one(client *fae.Client, line string) string {
	method, text, _ := strings.Cut(line, " ")
	var params []any
	if text != "" {
		if err := json.Unmarshal([]byte(text), &params); err != nil {
			log.Fatal(err)
		}
	}
	result, err := client.Call(method, params...)
	var failed *fae.Error
	if errors.As(err, &failed) {
		result = map[string]string{"error": failed.Code}
	} else if err != nil {
		log.Fatal(err)
	}
	out, _ := json.Marshal(result)
	return string(out)
}

func main() {
	client, err := fae.Dial(os.Args[1], "example", 5*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Conn.Close()
	var answers []chan string
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line, answer := lines.Text(), make(chan string, 1)
		answers = append(answers, answer)
		go func() { answer <- one(client, line) }()
	}
	for _, answer := range answers {
		fmt.Println(<-answer)
	}
}
