from typing import NamedTuple, Any
RoutesPrompts=Any
class RouterName(NamedTuple):
    router: str; threshold: float|None
class RouterSet:
    def __init__(self, r): self.r=r
    def is_router_name(self, m): return m.startswith("router-")
    def parse(self, m):
        rest=m[7:]
        if rest in self.r: return RouterName(rest,None)
        n,_,t=rest.rpartition("-"); return RouterName(n,float(t))
    def __getitem__(self,n): return self.r[n]
    names=()
