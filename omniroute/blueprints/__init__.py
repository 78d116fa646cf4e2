"""HTTP: parse, call one service or the gateway, render. No policy but the guard's, no SQL."""
