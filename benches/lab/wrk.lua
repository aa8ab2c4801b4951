-- What wrk asks for, and one line of JSON about what came of it.
--
--   wrk -s wrk.lua URL -- post BYTES     a body of so many bytes with each request
--   wrk -s wrk.lua URL -- close          a connection for each request
--   wrk -s wrk.lua URL -- paths N        the URL's path with a number below N after it, at random
--   wrk -s wrk.lua URL -- hosts N        a host of hN.bench, at random
--   wrk -s wrk.lua URL -- get

local function at_random(count, format)
    request = function() return format(math.random(0, count - 1)) end
end

function init(args)
    local what, number = args[1], tonumber(args[2])
    if what == "post" then
        wrk.method, wrk.body = "POST", string.rep("x", number)
    elseif what == "close" then
        wrk.headers["Connection"] = "close"
    elseif what == "paths" then
        local before = wrk.path
        at_random(number, function(n) return wrk.format(nil, before .. string.format("%d", n)) end)
    elseif what == "hosts" then
        at_random(number, function(n)
            wrk.headers["Host"] = string.format("h%d.bench", n)
            return wrk.format()
        end)
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.stdout:write(string.format(
        '\nJSON {"requests": %d, "bytes": %d, "errors": %d, "statuses": %d}\n', summary.requests, summary.bytes,
        errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
