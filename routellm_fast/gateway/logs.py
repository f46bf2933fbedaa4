class RequestLog: pass
