package main

import _ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"

func main() {}
